//! Takes an expression apart into tokens (`Gitlab::Ci::Pipeline::Expression::Lexer`).

/// GitLab's bound (`Lexer::MAX_TOKENS`): an expression is held against variables by recursion.
const MAX_TOKENS: usize = 100;

/// One word of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Variable(String),
    Text(String),
    /// The pattern between the slashes, and the flags behind them.
    Pattern(String),
    Null,
    Equals,
    NotEquals,
    Matches,
    NotMatches,
    And,
    Or,
    Open,
    Close,
}

/// The tokens of `text`; else what is no token.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if tokens.len() == MAX_TOKENS {
            return Err(format!("it has more than {MAX_TOKENS} parts"));
        }
        let (token, length) = token(rest)?;
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn token(rest: &str) -> Result<(Token, usize), String> {
    for (word, token) in [
        ("==", Token::Equals),
        ("!=", Token::NotEquals),
        ("=~", Token::Matches),
        ("!~", Token::NotMatches),
        ("&&", Token::And),
        ("||", Token::Or),
        ("(", Token::Open),
        (")", Token::Close),
    ] {
        if rest.starts_with(word) {
            return Ok((token, word.len()));
        }
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match rest.chars().next() {
        Some('$') => {
            let length = rest[1..].find(|c| !is_word(c)).unwrap_or(rest.len() - 1);
            match length {
                0 => Err(format!("`{rest}` is no variable: write `$NAME`")),
                _ => Ok((Token::Variable(rest[1..=length].to_owned()), length + 1)),
            }
        }
        Some(quote @ ('"' | '\'')) => {
            let end = rest[1..].find(quote).ok_or_else(|| format!("the text {rest} has no end"))?;
            Ok((Token::Text(rest[1..=end].to_owned()), end + 2))
        }
        Some('/') => {
            let length = pattern_length(rest).ok_or_else(|| format!("the pattern `{rest}` has no end"))?;
            Ok((Token::Pattern(rest[..length].to_owned()), length))
        }
        Some('n') if rest.starts_with("null") && !rest[4..].starts_with(is_word) => Ok((Token::Null, 4)),
        _ => {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            Err(format!("`{}` is no part of an expression: quote text as \"…\"", &rest[..end]))
        }
    }
}

/// How long `/…/flags` at the start of `rest` is.
pub(in crate::pipeline) fn pattern_length(rest: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '/' if at == 1 => return None,
            '/' => {
                let flags = rest[at + 1..].find(|c| !"ismU".contains(c)).unwrap_or(rest.len() - at - 1);
                return Some(at + 1 + flags);
            }
            _ => {}
        }
    }
    None
}
