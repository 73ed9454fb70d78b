//! Owns how lists are cut into pages: a token is the last key of the page before.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::json::{number, text};
use super::refusal::Refusal;

/// Answers `{member: […], nextToken?}` with one page of `items`, which are pairs of a sort key and a value.
pub(super) fn page(request: &Value, member: &str, mut items: Vec<(String, String)>) -> Result<Value, Refusal> {
    let most = number(request, "maxResults").unwrap_or(100);
    if !(1..=100).contains(&most) {
        return Err(Refusal::parameter("maxResults must be 1 to 100."));
    }
    let descending = text(request, "sort") == Some("DESC");
    items.sort();
    if descending {
        items.reverse();
    }
    if let Some(token) = text(request, "nextToken") {
        let last = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let last = last.ok_or_else(|| Refusal::parameter("Invalid token."))?;
        items.retain(|(key, _)| if descending { *key < last } else { *key > last });
    }
    let most = usize::try_from(most).unwrap_or(100);
    let rest = items.split_off(items.len().min(most));
    let next = items.last().filter(|_| !rest.is_empty()).map(|(key, _)| URL_SAFE_NO_PAD.encode(key));
    let values: Vec<_> = items.into_iter().map(|(_, value)| value).collect();
    let mut answer = json!({ member: values });
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(mut request: Value) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        loop {
            let items = (0..5).map(|n| (format!("{n:03}"), format!("item-{n}"))).collect();
            let answer = page(&request, "items", items).unwrap();
            pages.push(serde_json::from_value(answer["items"].clone()).unwrap());
            match answer.get("nextToken") {
                Some(token) => request["nextToken"] = token.clone(),
                None => return pages,
            }
        }
    }

    #[test]
    fn pages_join_to_the_whole_list_in_both_directions() {
        let ascending = walk(json!({"maxResults": 2}));
        let descending = walk(json!({"maxResults": 2, "sort": "DESC"}));

        assert_eq!(ascending, [vec!["item-0", "item-1"], vec!["item-2", "item-3"], vec!["item-4"]]);
        assert_eq!(descending.concat(), ["item-4", "item-3", "item-2", "item-1", "item-0"]);
    }

    #[test]
    fn a_wrong_token_or_page_size_is_refused() {
        for request in [json!({"maxResults": 0}), json!({"maxResults": 101}), json!({"nextToken": "?"})] {
            assert!(page(&request, "items", Vec::new()).is_err(), "{request}");
        }
    }
}
