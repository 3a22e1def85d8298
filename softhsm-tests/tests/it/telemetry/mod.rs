//! What the gateway tells those who run it, received by real receivers.

mod documentation;
mod environment;
mod rules;
mod scrapes;
mod traces;
