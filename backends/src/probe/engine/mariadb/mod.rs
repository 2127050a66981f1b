//! wip
mod facts;
mod lexer;
mod log;
mod script;
mod server;
