//! Reads tokens into an expression, and holds it against variables.
//!
//! Comparisons bind stronger than `&&`, and that than `||`, as in GitLab's shunting yard.

use regex::Regex;

use super::lexer::{Token, tokens};
use super::value::{Value, regex};

/// Parentheses in parentheses; nobody writes so many.
const MAX_DEPTH: usize = 32;

/// An expression that was read.
#[derive(Clone, Debug)]
pub(in crate::pipeline) enum Expression {
    Variable(String),
    Text(String),
    Pattern(Regex),
    Null,
    Equals(Box<Expression>, Box<Expression>),
    Matches(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
}

impl Expression {
    /// Reads `text`; else says what is wrong with it.
    pub fn read(text: &str) -> Result<Expression, String> {
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens: tokens.into_iter().peekable(), depth: 0 };
        let expression = parser.any()?;
        match parser.tokens.next() {
            None => Ok(expression),
            Some(token) => Err(format!("{} stands where `&&` or `||` should", name(&token))),
        }
    }

    /// Whether it holds for the variables that `value` knows.
    pub fn holds(&self, value: &dyn Fn(&str) -> Option<String>) -> bool {
        self.value(value).holds()
    }

    fn value(&self, variable: &dyn Fn(&str) -> Option<String>) -> Value {
        match self {
            Expression::Variable(name) => variable(name).map_or(Value::Null, Value::Text),
            Expression::Text(text) => Value::Text(text.clone()),
            Expression::Pattern(pattern) => Value::Pattern(pattern.clone()),
            Expression::Null => Value::Null,
            Expression::Equals(left, right) => Value::Truth(left.value(variable).equals(&right.value(variable))),
            Expression::Matches(left, right) => Value::Truth(left.value(variable).matches(&right.value(variable))),
            Expression::Not(inner) => Value::Truth(!inner.value(variable).holds()),
            // As in Ruby, these give one of their sides.
            Expression::And(left, right) => match left.value(variable) {
                left if !left.is_true() => left,
                _ => right.value(variable),
            },
            Expression::Or(left, right) => match left.value(variable) {
                left if left.is_true() => left,
                _ => right.value(variable),
            },
        }
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Parser {
    fn any(&mut self) -> Result<Expression, String> {
        let mut left = self.all()?;
        while self.tokens.next_if_eq(&Token::Or).is_some() {
            left = Expression::Or(Box::new(left), Box::new(self.all()?));
        }
        Ok(left)
    }

    fn all(&mut self) -> Result<Expression, String> {
        let mut left = self.comparison()?;
        while self.tokens.next_if_eq(&Token::And).is_some() {
            left = Expression::And(Box::new(left), Box::new(self.comparison()?));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        let mut left = self.operand()?;
        while let Some(operator) = self
            .tokens
            .next_if(|token| matches!(token, Token::Equals | Token::NotEquals | Token::Matches | Token::NotMatches))
        {
            let (left_side, right) = (Box::new(left), Box::new(self.operand()?));
            left = match operator {
                Token::Equals => Expression::Equals(left_side, right),
                Token::NotEquals => Expression::Not(Box::new(Expression::Equals(left_side, right))),
                Token::Matches => Expression::Matches(left_side, right),
                _ => Expression::Not(Box::new(Expression::Matches(left_side, right))),
            };
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expression, String> {
        Ok(match self.tokens.next() {
            Some(Token::Variable(name)) => Expression::Variable(name),
            Some(Token::Text(text)) => Expression::Text(text),
            Some(Token::Pattern(written)) => Expression::Pattern(regex(&written)?),
            Some(Token::Null) => Expression::Null,
            Some(Token::Open) => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(format!("there are more than {MAX_DEPTH} parentheses in each other"));
                }
                let inner = self.any()?;
                self.depth -= 1;
                match self.tokens.next() {
                    Some(Token::Close) => inner,
                    _ => return Err("a `(` has no `)`".to_owned()),
                }
            }
            Some(token) => return Err(format!("{} stands where a value should", name(&token))),
            None => return Err("a value is missing at the end".to_owned()),
        })
    }
}

fn name(token: &Token) -> String {
    match token {
        Token::Variable(name) => format!("`${name}`"),
        Token::Text(text) => format!("\"{text}\""),
        Token::Pattern(pattern) => format!("`{pattern}`"),
        Token::Null => "`null`".to_owned(),
        Token::Equals => "`==`".to_owned(),
        Token::NotEquals => "`!=`".to_owned(),
        Token::Matches => "`=~`".to_owned(),
        Token::NotMatches => "`!~`".to_owned(),
        Token::And => "`&&`".to_owned(),
        Token::Or => "`||`".to_owned(),
        Token::Open => "`(`".to_owned(),
        Token::Close => "`)`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> bool {
        let value = |name: &str| match name {
            "BRANCH" => Some("feature/login".to_owned()),
            "EMPTY" => Some(String::new()),
            "ONE" => Some("1".to_owned()),
            "PATTERN" => Some("/^FEATURE/i".to_owned()),
            _ => None,
        };
        Expression::read(text).unwrap_or_else(|error| panic!("{text}: {error}")).holds(&value)
    }

    #[test]
    fn expressions_hold_as_gitlab_documents_them() {
        for (text, expected) in [
            ("$BRANCH", true),
            ("$EMPTY", false),
            ("$UNKNOWN", false),
            ("$UNKNOWN == null", true),
            ("$EMPTY == null", false),
            ("$EMPTY == ''", true),
            ("$UNKNOWN != null", false),
            ("$ONE == \"1\"", true),
            ("'1' == $ONE", true),
            ("$BRANCH =~ /^feature/", true),
            ("$BRANCH =~ /^FEATURE/", false),
            ("$BRANCH =~ /^FEATURE/i", true),
            ("$BRANCH =~ /feature\\/log/", true),
            ("$BRANCH !~ /main/", true),
            ("$UNKNOWN =~ /x/", false),
            ("$UNKNOWN !~ /x/", true),
            ("$BRANCH =~ $PATTERN", true),
            ("$BRANCH =~ $ONE", false),
            ("$BRANCH =~ $UNKNOWN", false),
            ("$ONE == '1' && $BRANCH == 'main'", false),
            ("$ONE == '2' || $BRANCH =~ /login$/", true),
            ("$ONE == '2' && $ONE == '1' || $ONE", true),
            ("$EMPTY && $ONE", true),
            ("$EMPTY || $ONE", false),
            ("$UNKNOWN || $ONE", true),
            ("$UNKNOWN =~ /^$/", true),
            ("'23' =~ '1234'", true),
            ("'1234' =~ '23'", false),
            ("'a\nb' =~ /^b$/", false),
            ("'a\nb' =~ /^b$/m", true),
            ("$ONE && ($EMPTY || $UNKNOWN)", false),
            ("($ONE)", true),
            ("\"text\"", true),
            ("null", false),
        ] {
            assert_eq!(holds(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_part() {
        for (text, said) in [
            ("", "a value is missing"),
            ("$ONE = '1'", "`=` is no part"),
            ("$ONE == main", "`main` is no part of an expression: quote text"),
            ("$ONE ==", "a value is missing at the end"),
            ("== $ONE", "`==` stands where a value should"),
            ("$ONE $BRANCH", "`$BRANCH` stands where `&&` or `||` should"),
            ("($ONE", "a `(` has no `)`"),
            ("$ONE =~ /(/", "no regular expression"),
            ("$ONE =~ /abc", "has no end"),
            ("$ == '1'", "no variable"),
        ] {
            let error = Expression::read(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(Expression::read(&"(".repeat(10_000)).is_err());
        assert!(Expression::read(&"$ONE&&".repeat(200_000)).expect_err("too long").contains("more than 100 parts"));
    }
}
