//! The HTTP actor: holds the running HTTP server, and drains it when the node closes.
//!
//! It knows no routes. The server is made by the floor above and handed down by the binary, so that
//! imports keep pointing down.

use actix::prelude::*;
use actix_web::dev::ServerHandle;

use super::messages::inside::Close;

/// See the module.
pub struct HttpActor {
    server: ServerHandle,
}

impl HttpActor {
    pub fn new(server: ServerHandle) -> HttpActor {
        HttpActor { server }
    }
}

impl Actor for HttpActor {
    type Context = Context<Self>;
}

impl Handler<Close> for HttpActor {
    type Result = ResponseActFuture<Self, ()>;

    /// Accepts no more connections, and answers the requests it has within the server's shutdown
    /// time.
    fn handle(&mut self, _: Close, _: &mut Self::Context) -> Self::Result {
        let draining = self.server.stop(true).into_actor(self);
        Box::pin(draining.map(|(), _, ctx| ctx.stop()))
    }
}
