//! Settings: what a person writes.

use conuredb::config::{Cli, Config};

/// Takes the bytes before the first NUL for a settings file, those behind it for variables and flags, one a line.
pub fn decode(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut parts = text.splitn(3, '\0');
    let file = parts.next().unwrap_or_default();
    let pairs = |part: Option<&str>| -> Vec<(String, String)> {
        let lines = part.unwrap_or_default().lines();
        let pair = |line: &str| {
            let (name, value) = line.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        lines.filter_map(pair).collect()
    };
    let environment = pairs(parts.next());
    let cli = Cli { set: pairs(parts.next()), ..Cli::default() };
    match Config::from_layers(Some(("settings.yml", file)), environment, &cli) {
        Err(errors) => assert!(!errors.to_string().is_empty(), "an error without a word"),
        Ok(config) => {
            let printed = config.to_yaml();
            let again = Config::from_layers(Some(("printed", &printed)), [], &Cli::default());
            let again = again.unwrap_or_else(|errors| panic!("{errors}, in\n{printed}"));
            // The secret is not printed, and a place is where it was read.
            let shown = |config: Config| {
                let origins = Default::default();
                Config { cluster_secret: None, origins, ..config }.to_yaml()
            };
            assert_eq!(shown(again), shown(config), "{printed}");
        }
    }
}
