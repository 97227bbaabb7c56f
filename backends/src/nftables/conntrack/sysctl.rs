//! How many flows the kernel tracks, and for how long: what kube-proxy sets, set as it does.
//!
//! Planning is pure; [`Sysctls::set`] reads and writes `/proc` and `/sys`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tracing::{debug, info, warn};

/// What is asked for; 0 leaves a setting as it is. Nothing is ever lowered: the operator, or
/// another program, had a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctls {
    /// Flows for each CPU (`--conntrack-max-per-core`); 0 leaves the size alone, whatever `min` is.
    pub max_per_core: u32,
    /// The least number of flows (`--conntrack-min`).
    pub min: u32,
    /// How long an established TCP flow may be silent.
    pub tcp_established: Duration,
    /// How long a TCP flow may be half closed.
    pub tcp_close_wait: Duration,
    /// Whether TCP packets outside the window belong to their flow and are not invalid.
    pub tcp_be_liberal: bool,
    /// How long a UDP flow that nobody answered may be silent.
    pub udp: Duration,
    /// How long a UDP flow with answers may be silent.
    pub udp_stream: Duration,
}

impl Sysctls {
    /// Brings the kernel to what is asked for, where it is below that. What cannot be written is a
    /// warning: Services are served all the same.
    ///
    /// `root` is `/`, but for tests.
    pub fn set(&self, root: &Path, cores: usize) {
        for wanted in self.plan(cores) {
            let path = root.join(wanted.place);
            match raise(&path, wanted.value) {
                Ok(Raised::From(before)) => {
                    info!("{} raised from {before} to {}", wanted.name(), wanted.value);
                }
                Ok(Raised::Not(before)) => debug!("{} stays {before}", wanted.name()),
                Err(error) => warn!("{}", wanted.excuse(&path, &error)),
            }
        }
    }

    /// The settings that are asked for, in the order in which they are written.
    fn plan(&self, cores: usize) -> Vec<Wanted> {
        let seconds = |duration: Duration| duration.as_secs();
        let size = match self.max_per_core {
            0 => 0,
            each => (u64::from(each) * cores as u64).max(u64::from(self.min)),
        };
        let wanted = [
            (MAX, size, "--conntrack-max-per-core=0"),
            // Four flows a bucket, as kube-proxy has it.
            (BUCKETS, size / 4, "--conntrack-max-per-core=0"),
            (
                "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established",
                seconds(self.tcp_established),
                "--conntrack-tcp-timeout-established=0s",
            ),
            (
                "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait",
                seconds(self.tcp_close_wait),
                "--conntrack-tcp-timeout-close-wait=0s",
            ),
            (
                "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal",
                u64::from(self.tcp_be_liberal),
                "--conntrack-tcp-be-liberal=false",
            ),
            (
                "proc/sys/net/netfilter/nf_conntrack_udp_timeout",
                seconds(self.udp),
                "--conntrack-udp-timeout=0s",
            ),
            (
                "proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream",
                seconds(self.udp_stream),
                "--conntrack-udp-timeout-stream=0s",
            ),
        ];
        let wanted = wanted.into_iter().filter(|(_, value, _)| *value > 0);
        wanted.map(|(place, value, off)| Wanted { place, value, off }).collect()
    }
}

const MAX: &str = "proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "sys/module/nf_conntrack/parameters/hashsize";

/// One setting that is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    place: &'static str,
    value: u64,
    /// The flag that leaves it alone.
    off: &'static str,
}

impl Wanted {
    /// `net.netfilter.nf_conntrack_max`; the one that is no sysctl goes by its path.
    fn name(&self) -> String {
        match self.place.strip_prefix("proc/sys/") {
            Some(sysctl) => sysctl.replace('/', "."),
            None => format!("/{}", self.place),
        }
    }

    fn excuse(&self, path: &Path, error: &io::Error) -> String {
        let (name, value, off) = (self.name(), self.value, self.off);
        let way_out = match error.kind() {
            io::ErrorKind::NotFound => "the kernel does not track connections here yet".to_owned(),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => format!(
                "run the agent privileged and in the host's network namespace, or write \
                 {value} to it on the host"
            ),
            _ => format!("write {value} to it by hand"),
        };
        format!(
            "cannot raise {name} to {value} ({}: {error}): {way_out}; {off} leaves it alone",
            path.display()
        )
    }
}

/// What became of a setting, with the value that it had.
#[derive(Debug, PartialEq, Eq)]
enum Raised {
    From(u64),
    Not(u64),
}

/// Writes a value where there is a smaller one.
fn raise(path: &PathBuf, value: u64) -> io::Result<Raised> {
    let text = fs::read_to_string(path)?;
    let before: u64 = text.trim().parse().map_err(io::Error::other)?;
    if before >= value {
        return Ok(Raised::Not(before));
    }
    fs::write(path, value.to_string())?;
    Ok(Raised::From(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(sysctls: &Sysctls, cores: usize) -> Vec<(String, u64)> {
        sysctls.plan(cores).iter().map(|wanted| (wanted.name(), wanted.value)).collect()
    }

    #[test]
    fn nothing_is_asked_for_unless_it_is() {
        assert_eq!(planned(&Sysctls::default(), 8), []);
        let min_alone = Sysctls { min: 131_072, ..Sysctls::default() };
        assert_eq!(planned(&min_alone, 8), [], "as kube-proxy: without a maximum a core, no size");
    }

    #[test]
    fn the_size_grows_with_the_cores_and_has_a_floor() {
        let check = |cores, size: u64| {
            let sysctls = Sysctls { max_per_core: 32_768, min: 131_072, ..Sysctls::default() };
            let expected = [
                ("net.netfilter.nf_conntrack_max".to_owned(), size),
                ("/sys/module/nf_conntrack/parameters/hashsize".to_owned(), size / 4),
            ];
            assert_eq!(planned(&sysctls, cores), expected);
        };
        check(2, 131_072);
        check(4, 131_072);
        check(16, 524_288);
    }

    #[test]
    fn values_are_raised_and_never_lowered() {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join("proc/sys/net/netfilter");
        fs::create_dir_all(&net).unwrap();
        let file = |name: &str| net.join(format!("nf_conntrack_{name}"));
        for (name, before) in [
            ("tcp_timeout_established", "432000\n"),
            ("tcp_timeout_close_wait", "60\n"),
            ("tcp_be_liberal", "0\n"),
            ("udp_timeout", "30\n"),
            ("max", "1000000\n"),
        ] {
            fs::write(file(name), before).unwrap();
        }
        let sysctls = Sysctls {
            max_per_core: 32_768,
            min: 131_072,
            tcp_established: Duration::from_secs(86_400),
            tcp_close_wait: Duration::from_secs(3_600),
            tcp_be_liberal: true,
            udp: Duration::ZERO,
            udp_stream: Duration::from_secs(180),
        };
        // Files that are not there, as where nothing is tracked yet, stop nothing.
        sysctls.set(root.path(), 2);
        let read = |name: &str| fs::read_to_string(file(name)).unwrap().trim().to_owned();
        assert_eq!(read("tcp_timeout_established"), "432000");
        assert_eq!(read("tcp_timeout_close_wait"), "3600");
        assert_eq!(read("tcp_be_liberal"), "1");
        assert_eq!(read("udp_timeout"), "30");
        assert_eq!(read("max"), "1000000");
        assert!(!file("udp_timeout_stream").exists(), "a file is written and never made");
    }

    #[test]
    fn what_cannot_be_written_is_named_with_the_way_out() {
        let wanted = Wanted { place: MAX, value: 131_072, off: "--conntrack-max-per-core=0" };
        let error = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        let excuse = wanted.excuse(Path::new("/proc/sys/net/netfilter/nf_conntrack_max"), &error);
        for words in [
            "net.netfilter.nf_conntrack_max",
            "131072",
            "read-only",
            "on the host",
            "--conntrack-max-per-core=0",
        ] {
            assert!(excuse.contains(words), "{words:?} is not in {excuse}");
        }
    }
}
