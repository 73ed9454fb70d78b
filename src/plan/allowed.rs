//! Owns which images, services, users and groups a job may name (runner-behaviour.md §8.2).

use globset::GlobBuilder;
use thiserror::Error;

use crate::config::JobSettings;

/// An image that the runner's lists leave out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("disallowed image")]
pub struct Disallowed {
    image: String,
    /// `images` or `services`.
    list: &'static str,
    allowed: Vec<String>,
}

impl Disallowed {
    /// What stands in the log before the job's last line.
    pub fn words(&self) -> Vec<String> {
        let list = self.list;
        let mut words = vec![
            String::new(),
            format!("\x1b[31;1mERROR: The {:?} image is not present on list of allowed {list}:\x1b[0;m", self.image),
        ];
        words.extend(self.allowed.iter().map(|pattern| format!("- {pattern}")));
        words.push(String::new());
        words.push(format!("Please check runner's allowed_{list} in `[settings]` of the fleet configuration"));
        words
    }
}

/// Lets `image` pass if it is the runner's own default or in its list.
pub(super) fn allowed_image(image: &str, settings: &JobSettings, default: Option<&str>) -> Result<(), Disallowed> {
    if default == Some(image) {
        return Ok(());
    }
    in_list(image, "images", settings.allowed_images.as_deref())
}

/// The same for a service.
pub(super) fn allowed_service(image: &str, settings: &JobSettings) -> Result<(), Disallowed> {
    in_list(image, "services", settings.allowed_services.as_deref())
}

/// Whether a job may run as `user`. Root has to be named by the owner where `root_counts`, whatever else is allowed.
pub(super) fn allowed_id(id: &str, list: Option<&[String]>, root_counts: bool) -> bool {
    let list = list.unwrap_or_default();
    let named = list.iter().any(|allowed| allowed == id);
    named || (list.is_empty() && !(root_counts && id == "0"))
}

fn in_list(image: &str, list: &'static str, allowed: Option<&[String]>) -> Result<(), Disallowed> {
    let allowed = allowed.unwrap_or_default();
    if allowed.is_empty() || allowed.iter().any(|pattern| matches(pattern, image)) {
        return Ok(());
    }
    Err(Disallowed { image: image.to_owned(), list, allowed: allowed.to_vec() })
}

/// `*` stays between two slashes, `**` does not.
fn matches(pattern: &str, image: &str) -> bool {
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    glob.is_ok_and(|glob| glob.compile_matcher().is_match(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_doublestars() {
        for (pattern, image, expected) in [
            ("ruby:*", "ruby:3.3", true),
            ("ruby:*", "ruby", false),
            ("ruby:*", "my/ruby:3", false),
            ("my.registry.tld:5000/*:*", "my.registry.tld:5000/ruby:2.7", true),
            ("my.registry.tld:5000/*", "my.registry.tld:5000/a/b", false),
            ("my.registry.tld:5000/**", "my.registry.tld:5000/a/b", true),
            ("**/ruby:*", "a/b/ruby:1", true),
            ("{ruby,php}:?", "php:8", true),
            ("php:[78]", "php:6", false),
            ("ruby", "ruby", true),
        ] {
            assert_eq!(matches(pattern, image), expected, "{pattern} {image}");
        }
    }

    #[test]
    fn an_image_outside_the_list_is_named_with_the_list() {
        let lists = Some(vec!["ruby:*".to_owned(), "php:*".to_owned()]);
        let settings = JobSettings { allowed_images: lists.clone(), allowed_services: lists, ..JobSettings::default() };
        assert_eq!(allowed_image("ruby:1", &settings, None), Ok(()));
        assert_eq!(allowed_image("alpine", &settings, Some("alpine")), Ok(()));
        assert_eq!(allowed_image("alpine", &JobSettings::default(), None), Ok(()));
        let error = allowed_image("alpine", &settings, Some("busybox")).unwrap_err();
        assert_eq!(error.to_string(), "disallowed image");
        let words = error.words();
        assert_eq!(
            words[..5],
            [
                "",
                "\x1b[31;1mERROR: The \"alpine\" image is not present on list of allowed images:\x1b[0;m",
                "- ruby:*",
                "- php:*",
                ""
            ]
        );
        let error = allowed_service("redis", &settings).unwrap_err();
        assert!(error.words()[1].contains("The \"redis\" image is not present on list of allowed services:"));
    }

    #[test]
    fn root_has_to_be_named() {
        let list = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        for (id, ids, root_counts, expected) in [
            ("1000", &[][..], true, true),
            ("0", &[], true, false),
            ("0", &[], false, true),
            ("0", &["0"], true, true),
            ("1000", &["1001"], true, false),
            ("node", &["node"], false, true),
        ] {
            assert_eq!(allowed_id(id, Some(&list(ids)), root_counts), expected, "{id} {ids:?}");
        }
        assert!(allowed_id("7", None, true));
    }
}
