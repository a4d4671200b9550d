//! Where the configuration meets the machine: the file, the secret's file and the environment.
//!
//! All that is impure about the configuration stands here, for the binary to call once.

use std::ffi::OsString;
use std::path::Path;

use super::error::{ConfigError, ConfigErrors};
use super::{Cli, Config, Secret, layers};

impl Config {
    /// The configuration of this process. A secret that stands in a file is read into
    /// [`Config::cluster_secret`].
    pub fn load(cli: &Cli) -> Result<Config, ConfigErrors> {
        let file = match &cli.config {
            Some(path) => Some((path.clone(), read(path, "--config or CONURE_CONFIG")?)),
            None => None,
        };
        let file = file.as_ref().map(|(path, text)| (path.as_str(), text.as_str()));
        // A variable that is not UTF-8 is a bad value of its setting, which the replacement
        // character makes it.
        let lossy = |text: OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
        let mut config = Config::from_layers(file, environment, cli)?;
        config.read_secret()?;
        Ok(config)
    }

    /// The configuration that a file (its path and text), variables and flags make together.
    pub fn from_layers(
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
        cli: &Cli,
    ) -> Result<Config, ConfigErrors> {
        let mut errors = Vec::new();
        let mut stack = Vec::new();
        if let Some((path, text)) = file {
            stack.push(layers::file(path, text, &mut errors));
        }
        stack.push(layers::environment(environment, &mut errors));
        stack.push(layers::flags(cli.given(), &mut errors));
        layers::merge(stack, errors)
    }

    fn read_secret(&mut self) -> Result<(), ConfigError> {
        let Some(path) = &self.cluster_secret_file else { return Ok(()) };
        let origin = self.origin("cluster_secret_file");
        let text = read(&path.to_string_lossy(), &format!("cluster_secret_file ({origin})"))?;
        // Editors and `echo` end a file with a newline that is no part of the secret.
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(ConfigError::BadValue {
                key: "cluster_secret_file",
                origin,
                problem: format!("names {}, which is empty", path.display()),
                good: "the path of a file that holds the secret",
            });
        }
        // The secret moves, so that what `check` refuses, a secret given twice, stays refused.
        self.origins.insert("cluster_secret", format!("cluster_secret_file {}", path.display()));
        self.origins.remove("cluster_secret_file");
        self.cluster_secret = Some(Secret::new(text));
        self.cluster_secret_file = None;
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "read once by the binary, before there is a Disk")]
fn read(path: &str, origin: &str) -> Result<String, ConfigError> {
    std::fs::read(Path::new(path))
        .and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other))
        .map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            origin: origin.to_owned(),
            source,
        })
}
