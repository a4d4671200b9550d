//! The configuration as a person meets it: which place wins, what each mistake says, what is printed.

use std::io::Write;

use clap::Parser;

use super::settings::SETTINGS;
use super::*;

/// Loads from a file's text, variables and flags.
fn load(yaml: &str, env: &[(&str, &str)], flags: &[&str]) -> Result<Config, ConfigErrors> {
    let cli = Cli::parse_from(std::iter::once(&"conure-db").chain(flags));
    let env = env.iter().map(|(name, text)| (name.to_string(), text.to_string()));
    Config::from_layers(Some(("conure.yml", yaml)), env, &cli)
}

/// What `load` complains about, one line for each mistake.
fn complaints(yaml: &str, env: &[(&str, &str)], flags: &[&str]) -> String {
    load(yaml, env, flags).unwrap_err().to_string()
}

#[test]
fn without_file_environment_and_flags_the_defaults_are_in_force() {
    assert_eq!(load("", &[], &[]).unwrap(), Config::default());
    assert_eq!(load("# nothing\n---\n\nlimits:\n", &[], &[]).unwrap(), Config::default());
    let config = Config::default();
    config.check().unwrap();
    assert!(config.bootstraps());
    assert_eq!(config.raft_advertise().to_string(), "127.0.0.1:7001");
    assert_eq!(config.http_advertise().to_string(), "http://127.0.0.1:8081");
    assert_eq!(config.http_addr.listen_on(), ["[::]:8081", "0.0.0.0:8081"]);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let yaml = "node_id: file\ndata_dir: file\nlog_format: json\n\
                limits:\n  max_value_bytes: 1024\n  max_connections: 5\n  max_inflight_reads: 3\n";
    let env = [
        ("CONURE_NODE_ID", "env"),
        ("CONURE_DATA_DIR", "env"),
        ("CONURE_LIMITS__MAX_VALUE_BYTES", "2KiB"),
        ("CONURE_LIMITS__MAX_CONNECTIONS", "6"),
    ];
    let flags = ["--node-id", "flag", "--set", "limits.max_connections=7"];
    let config = load(yaml, &env, &flags).unwrap();
    assert_eq!(config.node_id, "flag");
    assert_eq!(config.data_dir, PathBuf::from("env"));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.limits.max_value_bytes, 2048);
    assert_eq!(config.limits.max_connections, 7);
    assert_eq!(config.limits.max_inflight_reads, 3);
    assert_eq!(config.origins["node_id"], "flag --node-id");
    assert_eq!(config.origins["data_dir"], "environment variable CONURE_DATA_DIR");
    assert_eq!(config.origins["log_format"], "file conure.yml");
    assert!(!config.origins.contains_key("raft_addr"));
}

#[test]
fn a_list_replaces_the_list_below_it() {
    let yaml = "seeds: [http://a:1, 'b:2', http://c:3]";
    let seeds = |config: Config| {
        config.seeds.iter().map(|seed| seed.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(seeds(load(yaml, &[], &[]).unwrap()), "http://a:1 http://b:2 http://c:3");
    let env = [("CONURE_SEEDS", "http://d:4, e:5,")];
    assert_eq!(seeds(load(yaml, &env, &[]).unwrap()), "http://d:4 http://e:5");
    assert_eq!(seeds(load(yaml, &env, &["--seeds", "f:6"]).unwrap()), "http://f:6");
}

#[test]
fn bootstrap_is_known_to_be_explicit() {
    let bootstrap = |flags: &[&str]| load("", &[], flags).map(|c| (c.bootstrap, c.bootstraps()));
    assert_eq!(bootstrap(&[]).unwrap(), (None, true));
    assert_eq!(bootstrap(&["--bootstrap"]).unwrap(), (Some(true), true));
    assert_eq!(bootstrap(&["--bootstrap=false"]).unwrap(), (Some(false), false));
    assert_eq!(bootstrap(&["--seeds=a:1"]).unwrap(), (None, false));
    assert_eq!(bootstrap(&["--seeds=a:1", "--bootstrap=false"]).unwrap(), (Some(false), false));
    assert_eq!(
        bootstrap(&["--seeds=a:1", "--bootstrap"]).unwrap_err().to_string(),
        "bootstrap (flag --bootstrap), seeds (flag --seeds): a node either founds a cluster or joins \
         one; remove bootstrap to join through the seeds, or remove the seeds"
    );
}

#[test]
fn an_unknown_key_names_its_place_and_the_likeliest_key() {
    assert_eq!(
        complaints("node-id: a\nlimits:\n  max_valeu_bytes: 1\nzebra: 1\n", &[], &[]),
        "file conure.yml: there is no setting \"limits.max_valeu_bytes\"; did you mean \"limits.max_value_bytes\"?\n\
         file conure.yml: there is no setting \"node-id\"; did you mean \"node_id\"?\n\
         file conure.yml: there is no setting \"zebra\"; `conure-db --check-config` lists all settings"
    );
    assert_eq!(
        complaints("", &[("CONURE_LIMITS_MAX_VALUE_BYTES", "1")], &[]),
        "environment variable CONURE_LIMITS_MAX_VALUE_BYTES: there is no setting \
         \"limits_max_value_bytes\"; did you mean \"limits.max_value_bytes\"?"
    );
    assert_eq!(
        complaints("", &[], &["--set", "cache_bytes=1"]),
        "flag --set: there is no setting \"cache_bytes\"; did you mean \"storage.cache_bytes\"?"
    );
    assert!(complaints("limits: 5", &[], &[]).contains("no setting \"limits\""));
}

#[test]
fn variables_that_are_no_settings_are_left_alone() {
    let env = [
        ("CONURE_SERVER", "http://a:1"),
        ("CONURE_CONFIG", "/etc/conure.yml"),
        ("CONURE_SEEDS", ""),
        ("CONURE_DB_SERVICE_HOST", "10.0.0.1"),
        ("CONURE_SERVICE_PORT_HTTP", "8081"),
        ("CONURE_DB_PORT", "tcp://10.0.0.1:8081"),
        ("CONURE_DB_PORT_8081_TCP_ADDR", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    assert_eq!(load("", &env, &[]).unwrap(), Config::default());
}

#[test]
fn every_bad_value_says_what_it_is_and_what_would_be_good() {
    for (line, complaint) in [
        ("node_id: a b", "node_id is \"a b\"; give it 1 to 64 of A-Z"),
        ("node_id: 007", "node_id is 7 without quotes, which YAML reads as no text"),
        ("node_id:", "node_id has no value"),
        ("node_id: ''", "node_id is empty"),
        ("node_id: [a]", "node_id is a list"),
        ("node_id: {a: b}", "node_id is a section"),
        ("raft_addr: node1", "raft_addr is \"node1\": it has no port; give it a host and a port"),
        ("raft_addr: node1:x", "its port \"x\" is not a number"),
        ("http_advertise_addr: https://a:1", "the scheme \"https\" is not supported"),
        ("seeds: a:1,b", "seeds is \"b\": it has no port"),
        ("bootstrap: maybe", "bootstrap is \"maybe\", neither true nor false"),
        (
            "barrier_timeout: 3",
            "barrier_timeout is 3 without a unit; give it a duration, such as 3s",
        ),
        ("barrier_timeout: fast", "barrier_timeout is \"fast\", no duration"),
        ("timeouts: {write: 0s}", "timeouts.write is 0s, out of 1ms to 1h"),
        ("follower_mode: ask", "follower_mode is \"ask\"; give it forward or redirect"),
        ("log_format: xml", "log_format is \"xml\"; give it text or json"),
        ("log_level: inof", "log_level is \"inof\", and \"inof\" is no level"),
        ("log_level: 'info,http=trac'", "and \"trac\" is no level"),
        (
            "limits: {max_value_bytes: 1023}",
            "limits.max_value_bytes is 1023, out of 1024 to 67108864",
        ),
        ("limits: {max_value_bytes: 65MiB}", "is 68157440, out of 1024 to 67108864"),
        ("limits: {max_value_bytes: -1}", "limits.max_value_bytes is \"-1\", no whole number"),
        ("limits: {max_value_bytes: 1MB}", "is \"1MB\", no whole number; give it a size"),
        ("limits: {max_value_bytes: true}", "is true without quotes"),
        ("limits: {max_connections: 0}", "limits.max_connections is 0, out of 1"),
        ("storage: {cache_bytes: 1.5}", "is 1.5 without quotes"),
        ("cluster_secret: ''", "cluster_secret is empty"),
    ] {
        let complaints = complaints(line, &[], &[]);
        assert!(complaints.starts_with("file conure.yml: "), "{line}: {complaints}");
        assert!(complaints.contains(complaint), "{line}: {complaints}");
        assert_eq!(complaints.lines().count(), 1, "{line}: {complaints}");
    }
}

#[test]
fn what_cannot_work_together_is_refused_with_a_remedy() {
    for (flags, complaint) in [
        (&["--raft-addr=:7001"][..], "set raft_advertise_addr to the name and port"),
        (&["--raft-addr=0.0.0.0:7001"], "peers cannot connect to 0.0.0.0:7001"),
        (&["--raft-addr=:7001", "--raft-advertise-addr=[::]:7001"], "raft_advertise_addr (flag"),
        (&["--http-advertise-addr=0.0.0.0:1"], "clients cannot connect to http://0.0.0.0:1"),
        (&["--seeds=0.0.0.0:1"], "name the seeds by host"),
        (&["--http-addr=:7001"], "both listen on port 7001"),
        (&["--cluster-secret=a", "--cluster-secret-file=b"], "the secret is given twice"),
        (&["--set=raft.election_timeout_min=600ms"], "equal timeouts split votes"),
        (&["--set=raft.heartbeat_interval=151ms"], "one late heartbeat would start an election"),
        (&["--set=limits.max_value_bytes=16MiB"], "set storage.log_segment_bytes to 1MiB above"),
        (&["--set=storage.log_segment_bytes=16000001"], "no multiple of 4096"),
        (&["--set=membership.remove_dead_after=9s"], "a node that restarts would be removed"),
        (&["--set=node_id=a", "--node-id=b"], "node_id is given twice"),
    ] {
        let complaints = complaints("", &[], flags);
        assert!(complaints.contains(complaint), "{flags:?}: {complaints}");
        assert_eq!(complaints.lines().count(), 1, "{flags:?}: {complaints}");
    }
}

#[test]
fn a_wildcard_with_an_advertised_address_is_fine_and_lends_its_host_to_http() {
    let config = load("", &[], &["--raft-addr=:7001", "--raft-advertise-addr=node1:7101"]).unwrap();
    assert_eq!(config.raft_advertise().to_string(), "node1:7101");
    assert_eq!(config.http_advertise().to_string(), "http://node1:8081");
    let config = load("", &[], &["--http-addr=node9:80"]).unwrap();
    assert_eq!(config.http_advertise().to_string(), "http://node9:80");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let complaints =
        complaints("zebra: 1\nnode_id: ''\n", &[("CONURE_LOG_FORMAT", "x")], &["--http-addr=x"]);
    assert_eq!(complaints.lines().count(), 4, "{complaints}");
}

#[test]
fn a_file_that_is_no_yaml_table_is_refused() {
    for text in ["node_id: [", "- a\n- b\n", "just text", "node_id: a\nnode_id: b\n"] {
        let complaints = complaints(text, &[], &[]);
        assert!(complaints.starts_with("file conure.yml is not YAML"), "{text}: {complaints}");
    }
}

#[test]
fn the_printed_configuration_gives_the_same_one_again() {
    let yaml = "node_id: n.1\ndata_dir: '/a \"b\"\\c'\nraft_addr: '[::1]:7001'\nseeds: [a:1, b:2]\n\
                log_level: info,conuredb::http=debug\nbarrier_timeout: 1m 30s 5ms\nfollower_mode: redirect\n\
                log_format: json\nbootstrap: false\ncluster_secret_file: /s\n\
                limits:\n  max_value_bytes: 3MiB\nraft.keep_log_entries: 0\n";
    for config in [Config::default(), load(yaml, &[], &[]).unwrap()] {
        let printed = config.to_yaml();
        let again = load(&printed, &[], &[]).unwrap();
        let values =
            |config: &Config| SETTINGS.iter().map(|s| (s.show)(config)).collect::<Vec<_>>();
        assert_eq!(values(&again), values(&config), "{printed}");
        assert_eq!(again.bootstrap, config.bootstrap);
    }
}

#[test]
fn a_secret_is_never_shown() {
    let config = load("cluster_secret: hunter2", &[], &[]).unwrap();
    assert_eq!(config.cluster_secret.as_ref().unwrap().expose(), b"hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(config.to_yaml().contains("# cluster_secret: (set, not shown)"));
    assert!(!config.to_yaml().contains("hunter2"));
    assert!(!complaints("cluster_secret: 52341", &[], &[]).contains("52341"));
    assert!(!complaints("cluster_secret: [hunter2]", &[], &[]).contains("hunter2"));
}

#[test]
fn the_files_are_read_and_a_missing_one_is_named() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    writeln!(secret, "hunter2").unwrap();
    let path = secret.path().to_str().unwrap();
    let load = |flags: &[&str]| Config::load(&Cli::parse_from(["conure-db"].iter().chain(flags)));
    let config = load(&["--cluster-secret-file", path]).unwrap();
    assert_eq!(config.cluster_secret, Some(Secret::new("hunter2")));
    config.check().unwrap();

    let missing = load(&["--cluster-secret-file", "/nowhere/s"]).unwrap_err().to_string();
    assert!(missing.contains("cannot read /nowhere/s"), "{missing}");
    let missing = load(&["--config", "/nowhere/c.yml"]).unwrap_err().to_string();
    assert!(missing.contains("cannot read /nowhere/c.yml, named by --config"), "{missing}");
}

#[test]
fn the_flags_are_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
    for setting in SETTINGS.iter().filter(|setting| !setting.key.contains('.')) {
        let flag = setting.key.replace('_', "-");
        let known = Cli::command().get_arguments().any(|arg| arg.get_long() == Some(&flag));
        assert!(known, "--{flag}");
    }
}
