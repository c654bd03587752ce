//! A small fleet: an entry calls two services, one of them calls an external; four hosts in two datacenters.

use detect::{Change, Config, Detector, Frame, Host, Instance, Pair, Parts, Rack, Service, Topology};

pub const BEGIN: u64 = 1_800_000_000;

/// Services by id: entry 0, logic 1, store 2, external 3. Instances: eight of each service, two on each host.
pub fn parts() -> Parts {
    let service = |name: &str, external| Service { name: name.to_owned(), external };
    let instance = |at: u32| Instance {
        name: format!("{}-{}", ["entry", "logic", "store"][(at / 8) as usize], at % 8),
        service: at / 8,
        host: at % 4,
        version: 1,
        wanted: true,
    };
    Parts {
        datacenters: vec!["east".to_owned(), "west".to_owned()],
        racks: (0..2).map(|at| Rack { name: format!("r{at}"), datacenter: at }).collect(),
        hosts: (0..4).map(|at| Host { name: format!("h{at}"), rack: at % 2 }).collect(),
        services: vec![
            service("entry", false),
            service("logic", false),
            service("store", false),
            service("bank", true),
        ],
        instances: (0..24).map(instance).collect(),
        pairs: vec![
            Pair { caller: 0, callee: 1 },
            Pair { caller: 0, callee: 2 },
            Pair { caller: 1, callee: 2 },
            Pair { caller: 1, callee: 3 },
        ],
    }
}

pub fn topology() -> Topology {
    Topology::new(parts()).unwrap()
}

/// A detector and the second at which it stands.
pub struct Watch {
    pub detector: Detector,
    pub frame: Frame,
    pub second: u64,
    pub changes: Vec<(u64, Change)>,
}

fn wobble(at: u64) -> f32 {
    let mixed = at.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as f32 / (1_u64 << 24) as f32 * 2.0 - 1.0
}

impl Watch {
    /// Warmed up by two minutes of health.
    pub fn warm() -> Self {
        let mut detector = Detector::new(Config::default());
        detector.retarget(topology());
        let frame = Frame::new(detector.topology());
        let mut watch = Self { detector, frame, second: BEGIN, changes: Vec::new() };
        watch.run(120, |_, _| {});
        assert!(watch.changes.is_empty(), "{:?}", watch.changes);
        watch
    }

    /// Runs seconds of health with a change of each frame; its second counts from 0.
    pub fn run(&mut self, seconds: u64, change: impl Fn(u64, &mut Frame)) {
        for at in 0..seconds {
            healthy(self.detector.topology(), self.second, &mut self.frame);
            change(at, &mut self.frame);
            let changes = self.detector.tick(&self.frame, self.second * 1_000 + 1_300);
            self.changes.extend(changes.into_iter().map(|change| (at, change)));
            self.second += 1;
        }
    }

    pub fn opened(&self) -> Vec<String> {
        let opened = self.changes.iter().filter_map(|(_, change)| match change {
            Change::Opened(id) | Change::Reopened(id) => Some(id.clone()),
            _ => None,
        });
        opened.collect()
    }

    /// The only incident's best cause, as text.
    pub fn blamed(&self) -> String {
        let opened = self.opened();
        assert_eq!(opened.len(), 1, "{:?}", self.changes);
        let incident = self.detector.incident(&opened[0]).unwrap();
        incident.causes.first().map_or_else(String::new, |cause| format!("{} {}", cause.kind, cause.entity))
    }
}

fn healthy(topology: &Topology, second: u64, frame: &mut Frame) {
    frame.clear(topology, second);
    let noise = |of: u64| wobble(second * 1_000 + of);
    for at in 0..topology.instances().len() {
        let n = at as u64;
        let columns = &mut frame.instances;
        columns.requests[at] = (100.0 + 10.0 * noise(n)).round();
        columns.errors[at] = f32::from(u8::from(noise(n + 200) > 0.6));
        columns.rejects[at] = 0.0;
        columns.latency_ms[at] = 10.0 * (1.0 + 0.05 * noise(n + 300));
        columns.tail_ms[at] = 30.0 * (1.0 + 0.1 * noise(n + 400));
        columns.in_flight[at] = 1.0;
        columns.cpu[at] = 0.3 + 0.02 * noise(n + 500);
        columns.memory[at] = 1e8;
    }
    for at in 0..topology.pairs().len() {
        let n = at as u64;
        let columns = &mut frame.pairs;
        columns.requests[at] = 800.0;
        columns.errors[at] = (8.0 + 3.0 * noise(n + 600)).round();
        columns.rejects[at] = 0.0;
        columns.latency_ms[at] = 10.0 * (1.0 + 0.03 * noise(n + 700));
        columns.tail_ms[at] = 30.0;
    }
    for at in 0..topology.hosts().len() {
        frame.hosts.cpu[at] = 0.5;
        frame.hosts.memory[at] = 0.5;
        frame.hosts.pressure[at] = 0.01;
    }
}
