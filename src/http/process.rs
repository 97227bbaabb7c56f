//! What Prometheus' own clients tell of every process, by their names.
//!
//! Written by hand because the facade knows no counter with a fraction, and the seconds of
//! processor time are one.

use std::{fmt::Write as _, fs};

/// What is told: name, kind, help.
const METRICS: [[&str; 3]; 9] = [
    ["process_cpu_seconds_total", "counter", "User and system CPU time spent, in seconds."],
    ["process_open_fds", "gauge", "Open file descriptors."],
    ["process_max_fds", "gauge", "File descriptors that may be open."],
    ["process_virtual_memory_bytes", "gauge", "Virtual memory, in bytes."],
    ["process_virtual_memory_max_bytes", "gauge", "Virtual memory that there may be; -1: any."],
    ["process_resident_memory_bytes", "gauge", "Resident memory, in bytes."],
    ["process_start_time_seconds", "gauge", "Start of the process, in seconds since the epoch."],
    ["process_network_receive_bytes_total", "counter", "Bytes that this network namespace got."],
    ["process_network_transmit_bytes_total", "counter", "Bytes that this network namespace sent."],
];

/// Adds the metrics of this process. What cannot be read is left out.
pub(super) fn render(text: &mut String) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    // The folder that is read is open itself.
    let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
    let files = Files {
        stat: read("/proc/self/stat"),
        system: read("/proc/stat"),
        limits: read("/proc/self/limits"),
        netstat: read("/proc/self/net/netstat"),
        open,
        ticks: rustix::param::clock_ticks_per_second(),
        page: rustix::param::page_size(),
    };
    for ([name, kind, help], value) in METRICS.into_iter().zip(files.values()) {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
        }
    }
}

/// What the kernel says.
struct Files {
    stat: String,
    system: String,
    limits: String,
    netstat: String,
    open: usize,
    ticks: u64,
    page: usize,
}

impl Files {
    /// The values, in the order of [`METRICS`].
    #[expect(clippy::cast_precision_loss, reason = "sizes and times stay far below 2^53")]
    fn values(&self) -> [Option<f64>; METRICS.len()] {
        let seconds = |ticks: f64| ticks / self.ticks as f64;
        let used = self.stat_field(14).zip(self.stat_field(15));
        let boot = self.system.lines().find_map(|line| line.strip_prefix("btime "));
        let boot = boot.and_then(|text| text.trim().parse::<f64>().ok());
        [
            used.map(|(user, system)| seconds(user + system)),
            Some(self.open as f64),
            self.limit("Max open files"),
            self.stat_field(23),
            self.limit("Max address space"),
            self.stat_field(24).map(|pages| pages * self.page as f64),
            boot.zip(self.stat_field(22)).map(|(boot, after)| boot + seconds(after)),
            self.octets("InOctets"),
            self.octets("OutOctets"),
        ]
    }

    /// A field by its number in proc_pid_stat(5). The second, a name in parentheses, may hold
    /// anything.
    fn stat_field(&self, number: usize) -> Option<f64> {
        let (_, rest) = self.stat.rsplit_once(')')?;
        rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
    }

    fn limit(&self, name: &str) -> Option<f64> {
        let rest = self.limits.lines().find_map(|line| line.strip_prefix(name))?;
        match rest.split_whitespace().next()? {
            "unlimited" => Some(-1.0),
            soft => soft.parse().ok(),
        }
    }

    /// A value of the line pair `IpExt`, of which the first has the names.
    fn octets(&self, name: &str) -> Option<f64> {
        let mut lines = self.netstat.lines().filter(|line| line.starts_with("IpExt:"));
        let place = lines.next()?.split_whitespace().position(|word| word == name)?;
        lines.next()?.split_whitespace().nth(place)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let files = Files {
            stat: "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 150 0 0 20 0 3 0 1000 9000000 512 1"
                .to_owned(),
            system: "cpu 1 2\nbtime 1700000000\n".to_owned(),
            limits: "Limit                     Soft Limit           Hard Limit           Units\n\
                     Max open files            1024                 4096                 files\n\
                     Max address space         unlimited            unlimited            bytes\n"
                .to_owned(),
            netstat: "TcpExt: A\nTcpExt: 1\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 17 19\n"
                .to_owned(),
            open: 9,
            ticks: 100,
            page: 4096,
        };
        let expected =
            [4.0, 9.0, 1024.0, 9_000_000.0, -1.0, 2_097_152.0, 1_700_000_010.0, 17.0, 19.0];
        assert_eq!(files.values(), expected.map(Some));
    }

    #[test]
    fn this_process_has_all_of_them() {
        let mut text = String::new();
        render(&mut text);
        for [name, kind, _] in METRICS {
            assert!(text.contains(&format!("# TYPE {name} {kind}\n{name} ")), "{name}: {text}");
        }
    }
}
