//! Queries: the subset of SOQL that clients use. Words ([`lexer`]), tree ([`parse`]), names resolved ([`bind`]),
//! conditions ([`filter`]), records found ([`run`]), answers written ([`rows`]).

pub mod bind;
pub mod filter;
pub mod lexer;
pub mod parse;
pub mod rows;
pub mod run;
