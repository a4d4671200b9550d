//! Asks a seed over HTTP to let this node in.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::actors::membership::Seeds;
use crate::actors::peer::handshake::Card;
use crate::client::{Client, ClientOptions, Join};
use crate::types::AskedBy;

/// Time for one seed. The cluster goes on with a join that takes longer; this node sees it by its membership.
const SEED_LIMIT: Duration = Duration::from_secs(5);

/// `POST /join` by the project's own client.
pub struct HttpSeeds;

impl Seeds for HttpSeeds {
    fn join(
        &self,
        seed: &str,
        own: &Card,
        voter: bool,
        asked_by: AskedBy,
    ) -> BoxFuture<'static, Result<(), String>> {
        let options = ClientOptions {
            timeout: SEED_LIMIT,
            attempt_timeout: SEED_LIMIT,
            ..ClientOptions::new(rand::random())
        };
        let client = Client::new(vec![seed.to_string()], options);
        let join = Join {
            id: own.name.clone(),
            raft_addr: own.raft_addr.clone(),
            http_addr: Some(own.http_addr.clone()),
            nonvoter: !voter,
            asked_by,
        };
        Box::pin(async move {
            let client = client.map_err(|error| error.to_string())?;
            client.join(&join).await.map_err(|error| error.to_string())
        })
    }
}
