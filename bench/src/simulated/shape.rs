//! The shape of a simulated fleet: its facilities, hosts and services as manifests, and who calls whom.

use super::agents::HostSpec;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Callers of each service.
pub type Callers = BTreeMap<String, Vec<String>>;

/// How large a fleet.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Datacenters.
    pub datacenters: usize,
    /// Racks in each.
    pub racks: usize,
    /// Hosts in all.
    pub hosts: usize,
    /// Services.
    pub services: usize,
    /// Instances in all.
    pub instances: usize,
}

/// Names that services take in turn, by layer.
const NAMES: [(&str, &[&str]); 3] = [
    ("access", &["gateway", "mobile-entry", "web-entry"]),
    (
        "logic",
        &["session", "lottery", "gift", "pay", "message", "profile", "friends", "feed", "search", "quota", "risk"],
    ),
    ("storage", &["ledger", "wallet-store", "graph-store", "message-store"]),
];

/// One service of the shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// `access`, `logic` or `storage`.
    pub layer: &'static str,
    /// What it calls.
    pub calls: Vec<String>,
}

impl Shape {
    /// Names of the datacenters.
    pub fn datacenters(&self) -> Vec<String> {
        (1..=self.datacenters).map(|n| format!("dc-{n}")).collect()
    }

    /// The hosts, spread evenly over racks and datacenters.
    pub fn hosts(&self) -> Vec<HostSpec> {
        let spec = |n: usize| {
            let (datacenter, _) = self.place(n);
            HostSpec { name: format!("h{n:05}"), datacenter: format!("dc-{}", datacenter + 1) }
        };
        (0..self.hosts).map(spec).collect()
    }

    /// Datacenter and rack of a host.
    fn place(&self, host: usize) -> (usize, usize) {
        let in_rack = self.hosts.div_ceil(self.datacenters * self.racks);
        let rack = host / in_rack;
        (rack / self.racks, rack % self.racks)
    }

    /// The services: an eighth in front, a quarter storage, the rest logic; calls go down only.
    pub fn services(&self) -> Vec<ServiceSpec> {
        let front = (self.services / 8).max(1);
        let storage = self.services / 4;
        let layer = |n: usize| match n {
            n if n < front => 0,
            n if n >= self.services - storage => 2,
            _ => 1,
        };
        let name = |n: usize| {
            let nth = (0..n).filter(|before| layer(*before) == layer(n)).count();
            let names = NAMES[layer(n)].1;
            let turn = nth / names.len();
            let suffix = if turn == 0 { String::new() } else { format!("-{}", turn + 1) };
            format!("{}{suffix}", names[nth % names.len()])
        };
        let calls = |n: usize| -> Vec<String> {
            let below = [n + front, n + front + 3, n + front + 7];
            below.into_iter().filter(|to| layer(n) < 2 && *to < self.services).map(name).collect()
        };
        (0..self.services).map(|n| ServiceSpec { name: name(n), layer: NAMES[layer(n)].0, calls: calls(n) }).collect()
    }

    /// Who calls each service; services in front are called from outside.
    pub fn callers(&self) -> Callers {
        let mut callers = Callers::new();
        for service in self.services() {
            for to in service.calls {
                callers.entry(to).or_default().push(service.name.clone());
            }
        }
        callers
    }

    /// Everything as manifests; `package` is a file that services run by name only.
    pub fn manifests(&self, package: &str, starts_at: &str, ends_at: &str) -> String {
        let mut text = String::from("kind: Region\nname: south\n");
        let mut put = |part: std::fmt::Arguments<'_>| text.write_fmt(part).expect("a String takes all");
        for (datacenter, name) in self.datacenters().iter().enumerate() {
            put(format_args!("---\nkind: Datacenter\nname: {name}\nregion: south\n"));
            for rack in 0..self.racks {
                put(format_args!("---\nkind: Rack\nname: r{}-{rack:02}\ndatacenter: {name}\n", datacenter + 1));
            }
        }
        put(format_args!("---\nkind: HostType\nname: box\ncpu: 8\nmemory: 16GiB\n"));
        for (n, host) in self.hosts().iter().enumerate() {
            let (datacenter, rack) = self.place(n);
            let address = format!("127.{}.{}.{}", 1 + n / 62_500, n / 250 % 250, 1 + n % 250);
            let rack = format!("r{}-{rack:02}", datacenter + 1);
            put(format_args!(
                "---\nkind: Host\nname: {}\nrack: {rack}\nhost_type: box\naddress: {address}\n",
                host.name
            ));
        }
        put(format_args!(
            "---\nkind: Business\nname: red-packet\n---\nkind: Package\nname: app\nversion: \"7.2\"\nsource: {package}\ncommand: [app]\n"
        ));
        put(format_args!("---\nkind: ConfigSet\nname: app\nfiles: {{app.conf: 'level = info'}}\n"));
        let services = self.services();
        for (at, service) in services.iter().enumerate() {
            let calls: Vec<String> = service.calls.iter().map(|to| format!("{{on: {to}}}")).collect();
            let share = |datacenter: usize| {
                let all = self.instances * (at + 1) / services.len() - self.instances * at / services.len();
                all * (datacenter + 1) / self.datacenters - all * datacenter / self.datacenters
            };
            let counts: Vec<String> = (0..self.datacenters).map(|n| format!("dc-{}: {}", n + 1, share(n))).collect();
            let route = if service.layer == "access" {
                format!("routes: [{{path_prefix: /{}}}]\n", service.name)
            } else {
                String::new()
            };
            put(format_args!(
                "---\nkind: Service\nname: {}\nbusiness: red-packet\nlayer: {}\npackage: app\nconfig: app\nshape: {{cpu: 0.5, memory: 512MiB}}\n\
                 ports: [http]\n{route}dependencies: [{}]\nhealth_check: {{path: /healthz}}\ninstances: {{{}}}\n",
                service.name,
                service.layer,
                calls.join(", "),
                counts.join(", ")
            ));
        }
        put(format_args!(
            "---\nkind: Event\nname: midnight\nbusiness: red-packet\nstarts_at: {starts_at}\nends_at: {ends_at}\nentry_requests_per_second: {{{}: 180000}}\n",
            services[0].name
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_has_as_many_of_each_as_it_says_and_calls_only_what_is_there() {
        let shape = Shape { datacenters: 3, racks: 8, hosts: 1_000, services: 24, instances: 10_000 };
        let (hosts, services) = (shape.hosts(), shape.services());
        assert_eq!((hosts.len(), services.len(), shape.datacenters().len()), (1_000, 24, 3));
        let names: std::collections::BTreeSet<&str> = services.iter().map(|of| of.name.as_str()).collect();
        assert_eq!(names.len(), 24, "names are unique: {names:?}");
        assert!(services.iter().flat_map(|of| &of.calls).all(|to| names.contains(to.as_str())));
        let text = shape.manifests("app", "2027-02-05T23:59:00+08:00", "2027-02-06T00:30:00+08:00");
        let declared = model::manifest::parse(&[("fleet.yaml".to_owned(), text)]).expect("manifests are well formed");
        let wanted: u32 = declared
            .iter()
            .filter_map(|of| match &of.resource {
                model::Resource::Service(service) => Some(service.instances.values().sum::<u32>()),
                _ => None,
            })
            .sum();
        assert_eq!(wanted, 10_000);
    }
}
