//! The hot series store, latency histograms and Prometheus exposition
