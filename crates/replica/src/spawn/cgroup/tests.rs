//! Finding hierarchies in the texts that kernels of both kinds show, and the bounds that are written.

use super::*;

const MOUNTS_V1: &str = "\
30 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 29 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 29 0:28 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
33 29 0:29 / /proc rw - proc proc rw
";

#[test]
fn hierarchies_of_version_1_are_found_by_controller() {
    let groups = "4:memory:/jobs/7\n3:freezer:/\n1:cpu,cpuacct:/\n";
    let found = parse(MOUNTS_V1, groups);
    let summary: Vec<_> = found.iter().map(|h| (h.controllers.clone(), h.base.to_str().unwrap())).collect();
    assert_eq!(
        summary,
        [(vec!["cpu"], "/sys/fs/cgroup/cpu,cpuacct/"), (vec!["memory"], "/sys/fs/cgroup/memory/jobs/7")]
    );
}

#[test]
fn a_container_sees_its_part_of_version_2() {
    let mounts = "30 29 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
    let found = parse(mounts, "0::/docker/abc/inner\n");
    assert_eq!(found[0].version, Version::V2);
    assert_eq!(found[0].base, Path::new("/sys/fs/cgroup/inner"));
}

#[test]
fn malformed_texts_yield_nothing() {
    for mounts in ["", "x", "1 2 3 / - cgroup", "1 2 3 / /x rw - cgroup cgroup rw,memory"] {
        assert!(parse(mounts, "nonsense").is_empty(), "{mounts}");
    }
}

#[test]
fn bounds_are_what_the_limits_say() {
    let limits = Limits { memory_bytes: 100, mapped_bytes: 11, cpu: Some(0.5), processes: 3, files: 9 };
    assert_eq!(settings_v1("memory", &limits), [("memory.limit_in_bytes", "111".to_owned())]);
    assert_eq!(settings_v2("cpu", &limits), [("cpu.max", "50000 100000".to_owned())]);
    assert_eq!(settings_v2("pids", &limits), [("pids.max", "3".to_owned())]);
    assert!(settings_v1("cpu", &Limits { cpu: None, ..limits }).is_empty());
    assert_eq!(cpu_quota_us(0.0), 1000);
    assert_eq!(cpu_quota_us(f32::NAN), 1000);
}
