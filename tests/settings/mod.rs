//! What the tests of pages and of the example of a settings file both have to know.

/// Settings that have no default: what then holds is said in words, or by an example.
pub const WITHOUT_DEFAULT: [&str; 6] = [
    "bootstrap",
    "cluster_secret",
    "cluster_secret_file",
    "http_advertise_addr",
    "raft_advertise_addr",
    "seeds",
];
