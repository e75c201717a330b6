//! What the kernel knows of the process and of the threads of its workers. Read when metrics are asked for, and twice a second.
//! Not here: what workers count themselves (`telemetry`).

use std::fs;
use std::time::Instant;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::exposition::Exposition;

/// What the process uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Seconds of CPU time, of all threads.
    pub cpu_seconds: f64,
    /// Bytes of memory that are resident.
    pub resident_bytes: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Open descriptors.
    pub open_descriptors: u64,
    /// Descriptors that may be open; 0: any number.
    pub max_descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// When it began, seconds since 1970.
    pub start_seconds: f64,
}

impl ProcessStatus {
    /// What it uses now. What cannot be read is 0.
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // proc_pid_stat(5): the name, which may hold anything, is in parentheses; the state, field 3, follows.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let ticks = clock_ticks_per_second().max(1) as f64;
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok()).unwrap_or(0.0);
        Self {
            cpu_seconds: (field(14) + field(15)) as f64 / ticks,
            resident_bytes: field(24) * page_size() as u64,
            virtual_bytes: field(23),
            open_descriptors: fs::read_dir("/proc/self/fd")
                .map_or(0, |entries| entries.count().saturating_sub(1) as u64),
            max_descriptors: getrlimit(Resource::Nofile).current.unwrap_or(0),
            threads: field(20),
            start_seconds: boot + field(22) as f64 / ticks,
        }
    }

    /// Under the names that the libraries of Prometheus have given them.
    pub(super) fn write(&self, out: &mut Exposition) {
        let mut one = |name: &str, kind: &str, help: &str, value: &dyn std::fmt::Display| {
            out.begin(name, kind, help);
            out.sample(name, "", value);
        };
        one("process_cpu_seconds_total", "counter", "CPU time of all threads.", &self.cpu_seconds);
        one("process_resident_memory_bytes", "gauge", "Memory that is resident.", &self.resident_bytes);
        one("process_virtual_memory_bytes", "gauge", "Address space.", &self.virtual_bytes);
        one("process_open_fds", "gauge", "Open descriptors.", &self.open_descriptors);
        one("process_max_fds", "gauge", "Descriptors that may be open.", &self.max_descriptors);
        one("process_threads", "gauge", "Threads.", &self.threads);
        one(
            "process_start_time_seconds",
            "gauge",
            "When the process began, in seconds since 1970.",
            &self.start_seconds,
        );
    }
}

/// How busy the thread of a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BusyStatus {
    /// Seconds that it has run on a CPU.
    pub cpu_seconds: f64,
    /// Seconds that it could have run and had to wait for a CPU.
    pub wait_seconds: f64,
    /// Part of the last half second, or of what has passed since, that it has run: 0 to 1.
    pub busy_ratio: f64,
}

/// The threads of workers, looked at again and again.
#[derive(Debug, Default)]
pub(super) struct Threads(Vec<(Option<Instant>, BusyStatus)>);

impl Threads {
    /// Looks at the threads with these numbers; 0: it has not begun.
    pub(super) fn look(&mut self, threads: impl IntoIterator<Item = u64>) {
        for (position, thread) in threads.into_iter().enumerate() {
            if self.0.len() <= position {
                self.0.push((None, BusyStatus::default()));
            }
            let Some(found) = schedstat(thread) else { continue };
            let (looked, busy) = &mut self.0[position];
            let now = Instant::now();
            let ran = found.cpu_seconds - busy.cpu_seconds;
            let ratio = looked.map_or(0.0, |looked| ran / now.duration_since(looked).as_secs_f64().max(1e-3));
            (*looked, *busy) = (Some(now), BusyStatus { busy_ratio: ratio.clamp(0.0, 1.0), ..found });
        }
    }

    /// What they were like then.
    pub(super) fn status(&self) -> Vec<BusyStatus> {
        self.0.iter().map(|(_, busy)| *busy).collect()
    }
}

/// What the scheduler has counted of a thread (proc(5), `/proc/PID/schedstat`).
fn schedstat(thread: u64) -> Option<BusyStatus> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse::<u64>().ok());
    let mut seconds = || Some(numbers.next()? as f64 / 1e9);
    Some(BusyStatus { cpu_seconds: seconds()?, wait_seconds: seconds()?, busy_ratio: 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found() {
        let status = ProcessStatus::read();
        assert!(status.resident_bytes > 100_000 && status.virtual_bytes >= status.resident_bytes, "{status:?}");
        assert!(status.open_descriptors >= 3 && status.threads >= 1 && status.max_descriptors >= 3, "{status:?}");
        assert!(status.start_seconds > 1.6e9, "{status:?}");
        let mut threads = Threads::default();
        let own = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs().into();
        (0..2).for_each(|_| threads.look([own, 0]));
        let [own, none] = threads.status()[..] else { panic!("{threads:?}") };
        assert!(own.cpu_seconds > 0.0 && (0.0..=1.0).contains(&own.busy_ratio), "{own:?}");
        assert_eq!(none, BusyStatus::default());
    }
}
