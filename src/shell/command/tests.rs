//! What words are which command, and what is said of those that are none.

use super::super::words::split;
use super::*;

fn read(line: &str) -> Result<Command, String> {
    let words = split(line.as_bytes()).unwrap();
    parse(words).map(|command| command.unwrap()).map_err(|why| why.to_string())
}

#[test]
fn values_come_from_words_files_and_standard_input() {
    let value = |line: &str| match read(line).unwrap() {
        Command::Put { value, .. } => value,
        other => panic!("{other:?}"),
    };
    assert_eq!(value("put k v"), Source::Word(b"v".to_vec()));
    assert_eq!(value("put k ''"), Source::Word(Vec::new()));
    assert_eq!(value("put k '--file'"), Source::Word(b"--file".to_vec()));
    assert_eq!(value("put k --file /tmp/x"), Source::File("/tmp/x".into()));
    assert_eq!(value("put k --file=/tmp/x"), Source::File("/tmp/x".into()));
    assert_eq!(value("put k -"), Source::Stdin);
    assert_eq!(value("put k '-'"), Source::Word(b"-".to_vec()));
    assert_eq!(value("put -- k -"), Source::Word(b"-".to_vec()));
    assert_eq!(value("put -- -k --x"), Source::Word(b"--x".to_vec()));
}

#[test]
fn options_stand_anywhere_after_the_command() {
    let read = |line| read(line).unwrap();
    assert_eq!(read("put --if-absent k v"), read("put k v --if-absent"));
    assert_eq!(
        read("delete k --if-revision 7"),
        Command::Delete { key: b"k".to_vec(), condition: Condition::ModRevision(7) }
    );
    assert_eq!(read("get k --help"), Command::Help(Some("get")));
    assert_eq!(
        read("del --prefix a"),
        Command::DeletePrefix { prefix: b"a".to_vec(), sure: false }
    );
    assert_eq!(
        read("join n2 h:1 --http-addr h:2 --nonvoter"),
        Command::Join(Join {
            id: "n2".to_owned(),
            raft_addr: "h:1".to_owned(),
            http_addr: Some("h:2".to_owned()),
            nonvoter: true,
            asked_by: AskedBy::Operator,
        })
    );
}

#[test]
fn a_scan_without_words_lists_a_screen_from_the_first_key() {
    let Ok(Command::Scan { scan, limit }) = read("scan") else { panic!() };
    assert_eq!((scan, limit), (Scan::default(), DEFAULT_LIMIT));
}

#[test]
fn a_watch_is_of_a_key_or_of_all_keys_with_a_prefix() {
    let read = |line| read(line).unwrap();
    assert_eq!(read("watch k"), Command::Watch(Watch::of(Keys::One("k".into()))));
    let keys = Keys::Prefix("".into());
    assert_eq!(
        read("watch --from 7 --prefix '' --prev"),
        Command::Watch(Watch { keys, from: Some(7), previous: true })
    );
}

#[test]
fn what_is_no_command_says_why() {
    for (line, why) in [
        ("fetch k", "no command \"fetch\""),
        ("help fetch", "no command \"fetch\""),
        ("get", "an argument is missing; usage: get KEY"),
        ("get ''", "a key has at least one byte"),
        ("get a b", "\"b\" is one argument too many"),
        ("-s x get k", "there is no option \"-s\" before a command; `conuresh --help`"),
        ("get k --limit 3", "get has no option --limit"),
        ("get k --stale --stale", "--stale is given twice"),
        ("get k --stale=yes", "--stale takes no value"),
        ("get k --meta --out f", "exclude each other"),
        ("put k", "a value is missing"),
        ("put k v --file f", "exclude each other"),
        ("put k v --if-absent --if-revision 1", "exclude each other"),
        ("put k v --if-revision x", "--if-revision is \"x\", no whole number"),
        ("put k v --ttl 30", "--ttl is \"30\", no duration such as 30s"),
        ("put k v --if-revision", "--if-revision needs N"),
        ("delete", "a key is missing"),
        ("delete k --prefix p", "--prefix stands alone"),
        ("scan --limit 0", "--limit begins at 1"),
        ("get k --revision -1", "--revision is \"-1\", no whole number"),
        ("diff 1", "an argument is missing; usage: diff FROM TO"),
        ("diff 1 x", "\"x\" is no revision"),
        ("watch", "a key or --prefix is missing"),
        ("watch k --prefix p", "a key and --prefix exclude each other"),
        ("watch k --from 0", "--from begins at 1"),
    ] {
        let said = read(line).unwrap_err();
        assert!(said.contains(why), "{line}: {said}");
    }
}
