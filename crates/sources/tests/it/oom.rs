//! Reports of the kernel, line by line.

use tapline_oapi::data::SystemOomKill;
use tapline_sources::OomReports;

/// What Linux 6.18 wrote to `/dev/kmsg` when a process went over the 32 MiB of its memory cgroup.
pub(crate) const MEMORY_CGROUP: &str = include_str!("../../data/memory-cgroup.kmsg");

/// Of the whole machine, as older kernels and `dmesg` write it; the lines that are not read are left out.
const MACHINE: &str = "\
[ 1234.567890] Web Content invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=300
[ 1234.567891] CPU: 3 PID: 4242 Comm: Web Content Not tainted 5.10.0 #1
[ 1234.567892] Mem-Info:
[ 1234.567893]  free:25088 free_pcp:120 free_cma:0
[ 1234.567894] Node 0 DMA free:15360kB min:264kB low:328kB high:392kB
[ 1234.567895] 2097032 pages RAM
[ 1234.567896] 0 pages HighMem/MovableOnly
[ 1234.567897] [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[ 1234.567898] [    312]     0   312    12345      678    98304        0         -1000 udevd
[ 1234.567899] [   4240]  1000  4240   900000    70000   998304        0           300 chromium
[ 1234.567900] [   4242]  1000  4242   900000    60000   998304        0           300 Web Content
[ 1234.567901] [   4243]  1000  4243   900000   500000   998304        0           300 renderer
[ 1234.567902] [   4244]  1000  4244   900000       10   998304        0           300 e
[ 1234.567903] [   4245]  1000  4245   900000      679   998304        0           300 f
[ 1234.567904] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=renderer,pid=4243,uid=1000
[ 1234.567905] Out of memory: Killed process 4243 (renderer) total-vm:3600000kB, anon-rss:1900000kB, file-rss:90000kB, shmem-rss:10000kB, UID:1000 pgtables:974kB oom_score_adj:300
";

fn kills(log: &str) -> Vec<SystemOomKill> {
    let mut reports = OomReports::new(4);
    log.lines().filter_map(|line| reports.line(line)).collect()
}

#[track_caller]
fn check(log: &str, expected: &str) {
    let [kill] = &kills(log)[..] else {
        panic!("one was killed")
    };
    let expected: SystemOomKill = serde_json::from_str(expected).unwrap();
    assert_eq!(*kill, expected);
}

#[test]
fn a_memory_cgroup_is_over_its_limit() {
    check(
        MEMORY_CGROUP,
        r#"{"process_name":"python3","pid":6051,"rss_kb":37592,"trigger_process_name":"python3",
            "trigger_pid":6051,"constraint":"memcg",
            "top_tasks":[{"name":"python3","pid":6051,"rss_kb":37592}]}"#,
    );
}

#[test]
fn the_machine_is_out_of_memory() {
    let expected = r#"{"process_name":"renderer","pid":4243,"rss_kb":2000000,
        "trigger_process_name":"Web Content","trigger_pid":4242,"constraint":"none",
        "mem_total_kb":8388128,"mem_free_kb":100352,"top_tasks":[
            {"name":"renderer","pid":4243,"rss_kb":2000000},
            {"name":"chromium","pid":4240,"rss_kb":280000},
            {"name":"Web Content","pid":4242,"rss_kb":240000},
            {"name":"f","pid":4245,"rss_kb":2716},
            {"name":"udevd","pid":312,"rss_kb":2712}]}"#;
    check(MACHINE, expected);
    // As `journalctl -k` has it.
    let journal = MACHINE.lines().map(|line| {
        let (_, message) = line.split_once("] ").unwrap();
        format!("Nov 25 02:00:00 sandbox kernel: {message}\n")
    });
    check(&journal.collect::<String>(), expected);
}

#[test]
fn a_field_without_a_line_is_left_out() {
    let killed = "Memory cgroup out of memory: Killed process 7 (a) (b) total-vm:9kB, anon-rss:1kB, file-rss:2kB";
    let alone = r#"{"process_name":"a) (b","pid":7,"rss_kb":3}"#;
    check(killed, alone);
    // The second of a report, as of a group that is killed together, repeats nothing of the first.
    let both = format!("{MACHINE}{killed}");
    let kills = kills(&both);
    assert_eq!(kills.len(), 2);
    assert_eq!(kills[1], serde_json::from_str(alone).unwrap());
}

#[test]
fn others_than_the_kernel_are_not_believed() {
    let user =
        "12,1,5,-;Out of memory: Killed process 7 (a) total-vm:9kB, anon-rss:1kB, file-rss:2kB";
    assert_eq!(kills(user), []);
    for odd in [
        "",
        ";",
        "x,1;Killed process",
        "Killed process ",
        "Killed process 7",
        "Killed process 7 (a) total-vm:9kB",
        "Killed process x (a) total-vm:9kB, anon-rss:1kB, file-rss:2kB",
        "a invoked oom-killer:\n[  pid  ] rss\n[\n[x] 1\n[1]\nfree:\n pages RAM\nCPU: PID: ",
    ] {
        assert_eq!(kills(odd), [], "{odd}");
    }
}
