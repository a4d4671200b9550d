//! Reads the part of PromQL that our alerts and panels are written in, and refuses the rest: what is misspelt there
//! would be noticed on the night it is needed.
//!
//! ```text
//! expression  term { operator term }
//! term        number | ( expression ) | aggregation [by (label, …)] (expression)
//!             | function (expression, …) | metric [{label="value", …}] [[5m]]
//! ```

use std::collections::BTreeSet;

/// A metric that an expression asks for, and the labels that it must have: those of its matchers, and those by
/// which it is grouped.
#[derive(Debug, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    pub labels: BTreeSet<String>,
}

const AGGREGATIONS: [&str; 4] = ["avg", "max", "min", "sum"];

/// Functions of a range of samples.
const OF_RANGES: [&str; 3] = ["increase", "predict_linear", "rate"];

/// Functions of values.
const OF_VALUES: [&str; 2] = ["histogram_quantile", "time"];

const OPERATORS: [&str; 13] =
    ["==", "!=", ">=", "<=", ">", "<", "+", "-", "*", "/", "and", "or", "unless"];

/// The selectors of an expression, or why it is none.
pub fn selectors(expression: &str) -> Result<Vec<Selector>, String> {
    let mut reader =
        Reader { rest: expression.trim(), grouped: Vec::new(), found: Vec::new(), in_range: false };
    reader.expression()?;
    match reader.rest {
        "" => Ok(reader.found),
        rest => Err(format!("{rest:?} is left over")),
    }
}

struct Reader<'a> {
    rest: &'a str,
    /// The labels of the groupings around this place.
    grouped: Vec<String>,
    found: Vec<Selector>,
    /// Whether a function of a range is asked here.
    in_range: bool,
}

impl<'a> Reader<'a> {
    fn takes(&mut self, text: &str) -> bool {
        let taken = self.rest.strip_prefix(text).map(str::trim_start);
        self.rest = taken.unwrap_or(self.rest);
        taken.is_some()
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        match self.takes(text) {
            true => Ok(()),
            false => Err(format!("{text:?} is missing before {:?}", self.rest)),
        }
    }

    /// The longest beginning of these characters.
    fn word(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|char| !is_part(char)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn name(&mut self) -> Result<&'a str, String> {
        let before = self.rest;
        match self.word(|char| char.is_ascii_alphanumeric() || char == '_' || char == ':') {
            "" => Err(format!("a name is missing before {before:?}")),
            name if name.starts_with(|char: char| char.is_ascii_digit()) => {
                Err(format!("{name:?} is no name"))
            }
            name => Ok(name),
        }
    }

    fn expression(&mut self) -> Result<(), String> {
        loop {
            self.term()?;
            if !OPERATORS.into_iter().any(|operator| self.takes(operator)) {
                return Ok(());
            }
        }
    }

    fn term(&mut self) -> Result<(), String> {
        if self.takes("(") {
            self.expression()?;
            return self.expect(")");
        }
        if self.rest.starts_with(|char: char| char.is_ascii_digit()) {
            let number = self.word(|char| char.is_ascii_digit() || char == '.');
            return number.parse::<f64>().map(drop).map_err(|_| format!("{number:?} is no number"));
        }
        let name = self.name()?;
        if AGGREGATIONS.contains(&name) {
            return self.aggregation();
        }
        match self.takes("(") {
            true => self.arguments(name),
            false => self.selector(name),
        }
    }

    fn aggregation(&mut self) -> Result<(), String> {
        let outer = self.grouped.len();
        if self.takes("by") {
            self.expect("(")?;
            loop {
                let label = self.name()?.to_owned();
                self.grouped.push(label);
                if !self.takes(",") {
                    break;
                }
            }
            self.expect(")")?;
        }
        self.expect("(")?;
        self.expression()?;
        self.grouped.truncate(outer);
        self.expect(")")
    }

    fn arguments(&mut self, function: &str) -> Result<(), String> {
        let is_of_range = OF_RANGES.contains(&function);
        if !is_of_range && !OF_VALUES.contains(&function) {
            return Err(format!("{function} is no function that is known here"));
        }
        if self.takes(")") {
            return Ok(());
        }
        loop {
            let outer = std::mem::replace(&mut self.in_range, is_of_range);
            self.expression()?;
            self.in_range = outer;
            if !self.takes(",") {
                return self.expect(")");
            }
        }
    }

    fn selector(&mut self, metric: &str) -> Result<(), String> {
        let mut labels: BTreeSet<String> = self.grouped.iter().cloned().collect();
        if self.takes("{") {
            while !self.takes("}") {
                labels.insert(self.name()?.to_owned());
                if !["=~", "!~", "!=", "="].into_iter().any(|operator| self.takes(operator)) {
                    return Err(format!("a matcher is missing before {:?}", self.rest));
                }
                self.expect("\"")?;
                let (_, rest) = self.rest.split_once('"').ok_or("a quote is not closed")?;
                self.rest = rest.trim_start();
                self.takes(",");
            }
        }
        let has_range = self.takes("[");
        if has_range {
            let range = self.word(|char| char.is_ascii_alphanumeric());
            humantime::parse_duration(range).map_err(|why| format!("[{range}]: {why}"))?;
            self.expect("]")?;
        }
        if has_range != self.in_range {
            let wants = if self.in_range { "a range, such as [5m]" } else { "no range" };
            return Err(format!("{metric} takes {wants} here"));
        }
        self.found.push(Selector { metric: metric.to_owned(), labels });
        Ok(())
    }
}

#[test]
fn what_is_no_expression_is_refused() {
    let read = |expression| {
        selectors(expression).map(|found| {
            let spelt = |it: Selector| {
                let labels: Vec<String> = it.labels.into_iter().collect();
                format!("{}({})", it.metric, labels.join(" "))
            };
            found.into_iter().map(spelt).collect::<Vec<_>>()
        })
    };
    let is = |found: &[&str]| Ok(found.iter().map(|it| it.to_string()).collect());
    assert_eq!(read("a == 0"), is(&["a()"]));
    assert_eq!(
        read("sum by (x, le) (rate(a_bucket{b=\"c\"}[5m])) / a > 1.5"),
        is(&["a_bucket(b le x)", "a()"])
    );
    assert_eq!(read("predict_linear(a[6h], 24 * 3600) < 0 and a < 9"), is(&["a()", "a()"]));
    for wrong in [
        "",
        "a ==",
        "sum(a",
        "rate(a)",
        "a[5m]",
        "rate(a[5])",
        "a{b}",
        "a{b=c}",
        "a{b=\"c}",
        "a b",
        "sum by () (a)",
        "no_such(a)",
        "1..2",
        "increase(a[1h]))",
    ] {
        assert!(selectors(wrong).is_err(), "{wrong} was read");
    }
}
