//! Floor 2: the actors of a node and the messages between them.

pub mod messages;
