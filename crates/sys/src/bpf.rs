//! The `bpf(2)` calls behind cgroup v2 device rules.
