//! The merge by examples: each a link, what its members showed since, and what is decided.
