//! CPU time and peak memory of a process and its descendants, from /proc. Not here: starting them.

use std::fs;
use std::time::Duration;

/// Nanoseconds of a tick of /proc/PID/stat: USER_HZ is 100 in every Linux ABI that Rust supports.
const TICK_NS: u64 = 10_000_000;

/// Resources that a process and its live descendants have used so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    run_ns: u64,
    user_ticks: u64,
    system_ticks: u64,
    switches: u64,
}

/// What was used between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) user: Duration,
    pub(super) system: Duration,
    /// Context switches of threads that have not ended, whoever wanted them.
    pub(super) switches: u64,
}

impl Reading {
    pub(super) fn of(root: u32) -> Self {
        let mut sum = Self { run_ns: 0, user_ticks: 0, system_ticks: 0, switches: 0 };
        for pid in family(root) {
            let (user, system) = fs::read_to_string(format!("/proc/{pid}/stat")).map_or((0, 0), |text| stat(&text));
            sum.user_ticks += user;
            sum.system_ticks += system;
            // Only `stat` includes threads that have ended. Both are lower bounds.
            sum.run_ns += threads_ns(pid).max((user + system) * TICK_NS);
            let switches = |task: String| fs::read_to_string(task + "/status").map_or(0, |text| switches(&text));
            sum.switches += tasks(pid).map(switches).sum::<u64>();
        }
        sum
    }

    /// What was used between two readings. The sum of CPU time has nanoseconds, its parts are
    /// divided in proportion to the ticks.
    pub(super) fn since(self, before: Self) -> Used {
        let run_ns = self.run_ns.saturating_sub(before.run_ns);
        let user = self.user_ticks.saturating_sub(before.user_ticks);
        let system = self.system_ticks.saturating_sub(before.system_ticks);
        let user_ns = (run_ns as f64 * user as f64 / (user + system).max(1) as f64) as u64;
        let (user, system) = (Duration::from_nanos(user_ns), Duration::from_nanos(run_ns - user_ns));
        Used { user, system, switches: self.switches.saturating_sub(before.switches) }
    }
}

/// Sum of the peaks of resident memory, in KiB.
pub(super) fn peak_kib(root: u32) -> u64 {
    let peak = |pid| fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|text| high_water(&text));
    family(root).into_iter().filter_map(peak).sum()
}

/// A process and all that descend from it.
fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while next < all.len() {
        for task in tasks(all[next]) {
            let children = fs::read_to_string(task + "/children").unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    all
}

/// Folders of a process' threads.
fn tasks(pid: u32) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().to_string_lossy().into_owned())
}

fn threads_ns(pid: u32) -> u64 {
    let run = |task: String| fs::read_to_string(task + "/schedstat").ok()?.split(' ').next()?.parse::<u64>().ok();
    tasks(pid).filter_map(run).sum()
}

/// User and system time in ticks (proc_pid_stat(5), fields 14 and 15); the name in brackets may hold anything.
fn stat(text: &str) -> (u64, u64) {
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_whitespace().skip(11).map(|field| field.parse().unwrap_or(0));
    (fields.next().unwrap_or(0), fields.next().unwrap_or(0))
}

/// Context switches of a thread (proc_pid_status(5)).
fn switches(status: &str) -> u64 {
    let counts = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
    counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
}

fn high_water(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 2 0 0 0 250 750 9 9 20 0 1 0 5 6 7";
        assert_eq!(stat(line), (250, 750));
        assert_eq!(stat(""), (0, 0));
        assert_eq!(high_water("VmPeak:\t 9 kB\nVmHWM:\t  1234 kB\n"), Some(1234));
        assert_eq!(switches("Threads:\t1\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t45\n"), 195);
        let reading = |run_ns, user_ticks, system_ticks| Reading { run_ns, user_ticks, system_ticks, switches: 0 };
        let cpu = reading(10_001_000_000, 250, 750).since(reading(1_000, 0, 0));
        assert_eq!((cpu.user.as_nanos(), cpu.system.as_nanos()), (2_500_249_750, 7_500_749_250));
    }

    #[test]
    fn this_process_has_used_cpu_and_memory() {
        let own = std::process::id();
        let before = Reading::of(own);
        let used = || Reading::of(own).since(before);
        while used().user + used().system < Duration::from_millis(30) {}
        assert!(peak_kib(own) > 100);
    }
}
