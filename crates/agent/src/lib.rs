//! Runs instances in cgroup slices and reports on them
