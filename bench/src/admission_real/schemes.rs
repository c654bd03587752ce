//! Who is compared: the rows of the table, what stands where in each, and the same in the simulator.

use sim::scheme::dagor::Dagor;
use sim::scheme::ours::Ours;
use sim::scheme::random::Random;
use sim::scheme::{Nothing, Scheme};

/// How long users keep their priorities, in microseconds: as the proxy does it.
const ROTATION_US: u64 = 3_600_000_000;

/// An overload control inside the service of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Control {
    /// First come, first served.
    None,
    /// Proportional, told the true capacity.
    Random,
    /// The paper's thresholds and steps, with windows of 100 ms.
    Dagor,
    /// The paper's windows of a second too.
    DagorPaper,
}

impl Control {
    /// The simulator's code for it.
    pub fn scheme(self) -> Box<dyn Scheme> {
        match self {
            Self::None => Box::new(Nothing),
            Self::Random => {
                Box::new(Random { label: "random", headroom: 1.0, window_us: 200_000, fixed: None, drop_expired: true })
            }
            Self::Dagor => Box::new(Dagor { window_us: 100_000, drop_expired: true, ..Dagor::paper(ROTATION_US) }),
            Self::DagorPaper => Box::new(Dagor { drop_expired: true, ..Dagor::paper(ROTATION_US) }),
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Row {
    /// Nothing anywhere.
    None,
    /// Random shedding in the service.
    Random,
    /// DAGOR in the service, quick windows.
    Dagor,
    /// DAGOR in the service, the paper's windows.
    DagorPaper,
    /// Springtide's proxy before a service that knows nothing of it: what every service gets.
    Springtide,
    /// The same before a service with the SDK.
    SpringtideSdk,
    /// A service with the SDK and nothing before it: each rejection costs its own CPU.
    SdkAlone,
}

impl Row {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Random => "random",
            Self::Dagor => "dagor",
            Self::DagorPaper => "dagor-paper",
            Self::Springtide => "springtide",
            Self::SpringtideSdk => "springtide+sdk",
            Self::SdkAlone => "sdk alone",
        }
    }

    /// What stands where.
    pub fn about(self) -> &'static str {
        match self {
            Self::None => "proxy --protection off, service without anything: first come, first served",
            Self::Random => {
                "in the service: admits capacity / arrivals, told the measured capacity, drops expired calls"
            }
            Self::Dagor => {
                "in the service: 20 ms, -5% / +1%, windows of 100 ms (quicker than the paper's), drops expired calls"
            }
            Self::DagorPaper => {
                "in the service: the paper's 20 ms, -5% / +1%, windows of 1 s or 2,000 calls; drops expired calls"
            }
            Self::Springtide => "proxy as shipped, its inferred gate; service without anything",
            Self::SpringtideSdk => "proxy as shipped; the service's SDK tells it the exact level",
            Self::SdkAlone => {
                "proxy --protection off; the SDK's exact gate in the service, which pays for each rejection"
            }
        }
    }

    /// Whether our proxy protects.
    pub fn proxy_protects(self) -> bool {
        matches!(self, Self::Springtide | Self::SpringtideSdk)
    }

    /// Whether it is ours.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Springtide | Self::SpringtideSdk | Self::SdkAlone)
    }

    /// The control in the benchmark's own service; absent where the service is one with the SDK.
    pub fn control(self) -> Option<Control> {
        match self {
            Self::None | Self::Springtide => Some(Control::None),
            Self::Random => Some(Control::Random),
            Self::Dagor => Some(Control::Dagor),
            Self::DagorPaper => Some(Control::DagorPaper),
            Self::SpringtideSdk | Self::SdkAlone => None,
        }
    }

    /// Time before the measurement, in seconds: `usual`, or what the paper's steps of 5% a second need to come down.
    pub fn warm_s(self, load: f64, usual: f64) -> f64 {
        match self {
            Self::DagorPaper => usual + load.max(1.0).ln() / 0.05,
            _ => usual,
        }
    }

    /// The same in the simulator.
    pub fn simulated(self) -> Box<dyn Scheme> {
        match self {
            Self::Springtide => Box::new(Ours::untold(ROTATION_US)),
            Self::SpringtideSdk | Self::SdkAlone => Box::new(Ours::shipped(ROTATION_US)),
            Self::None | Self::Random | Self::Dagor | Self::DagorPaper => {
                self.control().unwrap_or(Control::None).scheme()
            }
        }
    }
}
