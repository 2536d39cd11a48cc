//! Every metric name in one file; access log; events.
