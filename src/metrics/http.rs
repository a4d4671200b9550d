//! Requests of clients, by route, method and status.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::kinds::{Count, histogram};

/// Names a finished request. All three come from fixed sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

/// The limits whose refusals are counted; there from the start, so that a rate of them is 0 and not unknown.
const LIMITS: [&str; 6] = ["writes", "reads", "admin", "watchers", "backups", "body_bytes"];

/// The statuses of the contract.
const STATUSES: [(u16, &str); 22] = [
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (206, "206"),
    (304, "304"),
    (307, "307"),
    (400, "400"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (410, "410"),
    (412, "412"),
    (413, "413"),
    (415, "415"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (503, "503"),
    (504, "504"),
    (507, "507"),
];

pub struct Http {
    requests: Family<RequestLabels, Count>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    rejected: Family<LimitLabels, Count>,
}

impl Http {
    pub fn new(add: &mut Registry) -> Http {
        let http = Http {
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            rejected: Family::default(),
        };
        let about = "Requests answered, by route, method and status";
        add.register("http_requests", about, http.requests.clone());
        add.register_with_unit(
            "http_request_duration",
            "From a request's head to the head of its reply, by route and method",
            Unit::Seconds,
            http.seconds.clone(),
        );
        let about = "Requests refused because a limit was reached, by limit";
        add.register("http_rejected", about, http.rejected.clone());
        for limit in LIMITS {
            drop(http.rejected.get_or_create(&LimitLabels { limit }));
        }
        http
    }

    pub fn observe(
        &self,
        route: &'static str,
        method: &'static str,
        status: u16,
        elapsed: Duration,
    ) {
        let known = STATUSES.iter().find(|(number, _)| *number == status);
        let status = known.map_or("other", |(_, name)| name);
        self.requests.get_or_create(&RequestLabels { route, method, status }).inc();
        self.seconds.get_or_create(&RouteLabels { route, method }).observe(elapsed.as_secs_f64());
    }

    pub fn reject(&self, limit: &'static str) {
        self.rejected.get_or_create(&LimitLabels { limit }).inc();
    }
}
