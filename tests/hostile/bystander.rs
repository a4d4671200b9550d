//! A client that has nothing to do with it: it writes and reads back, one request after the other, and each must be
//! answered as it should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinHandle;

use crate::harness::{Node, PATIENCE, until};

pub struct Bystander {
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    running: JoinHandle<Vec<String>>,
}

impl Bystander {
    /// Begins to ask this node, on a kept connection of its own.
    pub fn of(node: &Node) -> Bystander {
        let (is_over, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        let (http, url) = (http.expect("an HTTP client"), format!("{}/kv/bystander", node.url()));
        let running = {
            let (is_over, served) = (is_over.clone(), served.clone());
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    let value = format!("value {}", served.load(Ordering::SeqCst));
                    match round(&http, &url, &value).await {
                        Ok(()) => drop(served.fetch_add(1, Ordering::SeqCst)),
                        Err(failure) => failures.push(failure),
                    }
                }
                failures
            })
        };
        Bystander { is_over, served, running }
    }

    /// Waits until it was served so many times more.
    pub async fn is_served(&self, times: usize) {
        let goal = self.served.load(Ordering::SeqCst) + times;
        let what = format!("the bystander to be served {times} times");
        until(&what, async || (self.served.load(Ordering::SeqCst) >= goal).then_some(())).await;
    }

    /// Requires that nothing of it failed.
    pub async fn ends_unharmed(self) {
        self.is_served(5).await;
        self.is_over.store(true, Ordering::SeqCst);
        let failures = self.running.await.expect("no panic");
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

async fn round(http: &reqwest::Client, url: &str, value: &str) -> Result<(), String> {
    let put =
        http.put(url).body(value.to_owned()).send().await.map_err(|error| format!("{error:?}"))?;
    if put.status() != 200 {
        return Err(format!("a put: {put:?}"));
    }
    let _ = put.bytes().await;
    let get = http.get(url).send().await.map_err(|error| format!("{error:?}"))?;
    let (status, said) = (get.status(), get.text().await.map_err(|error| format!("{error:?}"))?);
    match status == 200 && said == value {
        true => Ok(()),
        false => Err(format!("a get: {status} {said}")),
    }
}
