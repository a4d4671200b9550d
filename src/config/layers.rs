//! The places a setting can stand in, each made a layer; the `config` crate lays them over each other.
//!
//! Every value carries its origin through the merge: `file conure.yml`, `environment variable
//! CONURE_NODE_ID`, `flag --node-id`. Unknown keys are found layer by layer, before the merge, so that a
//! misspelt one is an error also where it overrules nothing.

use config::{FileFormat, Format, Map, Source, Value, ValueKind};

use super::error::{ConfigError, ConfigErrors};
use super::settings::{SETTINGS, find};
use super::{Config, check};

/// The prefix of the environment variables that are settings. Two underscores stand for the dot of a key.
const ENV_PREFIX: &str = "CONURE_";

/// Variables with the prefix that are not settings of a node: the shell's servers, and the path of the
/// configuration file.
const OTHER_VARIABLES: &[&str] = &["CONURE_SERVER", "CONURE_CONFIG"];

/// One layer: values by dotted key, all of them known ones.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    values: Map<String, Value>,
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

impl Layer {
    fn add(&mut self, key: String, origin: &str, kind: ValueKind, errors: &mut Vec<ConfigError>) {
        let Some(setting) = find(&key) else {
            let nearest = nearest(&key);
            return errors.push(ConfigError::UnknownKey {
                key,
                origin: origin.to_owned(),
                nearest,
            });
        };
        let origin = origin.to_owned();
        // No setting is a table, and the merge would give one no origin.
        if matches!(kind, ValueKind::Table(_)) {
            let (key, good, problem) = (setting.key, setting.good, "is a section".to_owned());
            return errors.push(ConfigError::BadValue { key, origin, problem, good });
        }
        if self.values.insert(key, Value::new(Some(&origin), kind)).is_some() {
            errors.push(ConfigError::Duplicate { key: setting.key, origin });
        }
    }
}

/// A YAML file's text. Sections nest; `limits.max_value_bytes: 1` in one line is taken too.
pub fn file(path: &str, text: &str, errors: &mut Vec<ConfigError>) -> Layer {
    let mut layer = Layer::default();
    let origin = format!("file {path}");
    // The parser wants a table: a file of comments only is one without keys.
    let blank = |line: &str| matches!(line.trim().as_bytes(), [] | [b'#', ..] | b"---");
    if text.lines().all(blank) {
        return layer;
    }
    match FileFormat::Yaml.parse(None, text) {
        Ok(table) => add_table(&mut layer, "", table, &origin, errors),
        Err(source) => errors.push(ConfigError::NotYaml { path: path.to_owned(), source }),
    }
    layer
}

fn add_table(
    layer: &mut Layer,
    section: &str,
    table: Map<String, Value>,
    origin: &str,
    errors: &mut Vec<ConfigError>,
) {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, value) in entries {
        let key = format!("{section}{name}");
        let is_section = || SETTINGS.iter().any(|s| s.key.starts_with(&format!("{key}.")));
        match value.kind {
            ValueKind::Table(inner) if find(&key).is_none() => {
                add_table(layer, &format!("{key}."), inner, origin, errors);
            }
            // A section whose lines are all commented out.
            ValueKind::Nil if is_section() => {}
            kind => layer.add(key, origin, kind, errors),
        }
    }
}

/// The environment. An empty variable counts as unset, which is what compose files make of `${SEEDS:-}`.
pub fn environment(
    variables: impl IntoIterator<Item = (String, String)>,
    errors: &mut Vec<ConfigError>,
) -> Layer {
    let mut layer = Layer::default();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
        if text.is_empty() || OTHER_VARIABLES.contains(&name.as_str()) || is_service_link(rest) {
            continue;
        }
        let key = rest.to_ascii_lowercase().replace("__", ".");
        let origin = format!("environment variable {name}");
        layer.add(key, &origin, ValueKind::String(text), errors);
    }
    layer
}

/// Kubernetes and linked containers describe a service called `conure-…` to every container by
/// `CONURE_…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_PORT` and `…_PORT_8081_TCP_ADDR`. Nobody chose these.
fn is_service_link(rest: &str) -> bool {
    let rest = format!("_{rest}");
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || rest.contains("_TCP")
        || rest.contains("_UDP")
}

/// Flags: key, flag and text of each that was given.
pub fn flags(given: Vec<(String, String, String)>, errors: &mut Vec<ConfigError>) -> Layer {
    let mut layer = Layer::default();
    for (key, flag, text) in given {
        layer.add(key, &format!("flag {flag}"), ValueKind::String(text), errors);
    }
    layer
}

/// Lays `layers` over each other and over the defaults, the last on top, and checks the result.
pub fn merge(layers: Vec<Layer>, mut errors: Vec<ConfigError>) -> Result<Config, ConfigErrors> {
    let mut builder = config::Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let merged = builder.build().map(|merged| merged.cache);
    let merged = merged.unwrap_or_else(|why| unreachable!("a layer is in memory: {why}"));
    let mut config = Config::default();
    for setting in SETTINGS {
        let Some(value) = lookup(&merged, setting.key) else { continue };
        let origin = value.origin().unwrap_or("default").to_owned();
        match (setting.set)(&mut config, &value.kind) {
            Ok(()) => {
                config.origins.insert(setting.key, origin);
            }
            Err(problem) => errors.push(ConfigError::BadValue {
                key: setting.key,
                origin,
                problem,
                good: setting.good,
            }),
        }
    }
    check::check(&config, &mut errors);
    match errors.is_empty() {
        true => Ok(config),
        false => Err(ConfigErrors(errors)),
    }
}

fn lookup<'a>(root: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(root, |value, name| match &value.kind {
        ValueKind::Table(table) => table.get(name),
        _ => None,
    })
}

/// The setting whose key looks most like `key`, if one does: the same letters (`LIMITS_MAX_VALUE_BYTES`
/// with one underscore for two), the last part alone, or at most two letters apart.
fn nearest(key: &str) -> Option<&'static str> {
    let letters = |key: &str| key.replace(['.', '_', '-'], "").to_ascii_lowercase();
    let wanted = letters(key);
    let last = |key: &'static str| key.rsplit('.').next().unwrap_or(key);
    let mut keys = SETTINGS.iter().map(|setting| setting.key);
    keys.clone()
        .find(|known| letters(known) == wanted || letters(last(known)) == wanted)
        .or_else(|| keys.find(|known| known.len() > 4 && distance(&letters(known), &wanted) <= 2))
}

/// Letters to insert, remove or change to get from one word to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
