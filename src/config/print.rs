//! The effective configuration as YAML, for `conure-db --check-config`.
//!
//! What is printed is itself a configuration file that gives the same settings. The secret is not in
//! it, and neither is a mask that could be taken for one: it is a comment.

use std::fmt::{self, Write};

use super::Config;
use super::settings::SETTINGS;

impl Config {
    /// Every setting in force, with where it came from.
    pub fn to_yaml(&self) -> String {
        let mut yaml = String::new();
        self.write_yaml(&mut yaml).expect("a string takes all that is written");
        yaml
    }

    fn write_yaml(&self, yaml: &mut String) -> fmt::Result {
        let mut section = "";
        for setting in SETTINGS {
            let (parent, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
            if parent != section {
                writeln!(yaml, "{parent}:")?;
                section = parent;
            }
            let indent = if parent.is_empty() { "" } else { "  " };
            let line = match (setting.show)(self) {
                Some(value) => format!("{indent}{name}: {value}"),
                None => format!("{indent}# {name}: {}", self.why_not_shown(setting.key)),
            };
            match self.origins.get(setting.key) {
                Some(origin) => writeln!(yaml, "{line}  # {}", origin.escape_debug())?,
                None => writeln!(yaml, "{line}")?,
            }
        }
        Ok(())
    }

    fn why_not_shown(&self, key: &str) -> &'static str {
        match key {
            "cluster_secret" if self.cluster_secret.is_some() => "(set, not shown)",
            "bootstrap" if self.bootstraps() => "(not set, which means true)",
            "bootstrap" => "(not set, which means false where there are seeds)",
            _ => "(not set)",
        }
    }
}
