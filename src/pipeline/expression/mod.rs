//! GitLab's expression language of `rules:if` and `only:variables`: read once, held against variables often.

mod lexer;
mod parser;
mod value;

pub(super) use lexer::pattern_length;
pub(super) use parser::Expression;
pub(super) use value::regex;
