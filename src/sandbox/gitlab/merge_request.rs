//! Owns merge requests as pipelines show them: always detached, from a branch of the project itself.

use serde_json::{Value, json};

use super::predefined::Sent;
use super::state::{Project, State};

/// A merge request at the time of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MergeRequest {
    pub iid: u64,
    pub source: String,
    pub target: String,
    pub title: String,
    /// Where the source branch left the target.
    pub diff_base: String,
}

impl MergeRequest {
    pub fn git_ref(&self) -> String {
        format!("refs/merge-requests/{}/head", self.iid)
    }

    /// Its id on the instance, which nobody counts by.
    fn id(&self) -> u64 {
        500 + self.iid
    }
}

impl State {
    /// The open merge request from `source` into `target`; opens it if there is none.
    pub fn merge_request_iid(&mut self, project: u64, source: &str, target: &str) -> u64 {
        let Some(row) = self.projects.iter_mut().find(|row| row.id == project) else { return 0 };
        let wanted = (source.to_owned(), target.to_owned());
        let place = row.merge_requests.iter().position(|known| *known == wanted).unwrap_or_else(|| {
            row.merge_requests.push(wanted);
            row.merge_requests.len() - 1
        });
        place as u64 + 1
    }

    /// `CI_OPEN_MERGE_REQUESTS`: four at most that come from `branch`; `None` without any.
    pub fn open_merge_requests(&self, project: &Project, branch: &str) -> Option<String> {
        let open = project.merge_requests.iter().enumerate().filter(|(_, (source, _))| source == branch);
        let names: Vec<String> = open.take(4).map(|(place, _)| format!("{}!{}", project.path, place + 1)).collect();
        (!names.is_empty()).then(|| names.join(","))
    }

    pub fn merge_request_variables(&self, request: &MergeRequest, project: &Project) -> Vec<Sent> {
        let web_url = self.web_url(project);
        let protected = |branch: &str| self.is_protected(project.id, branch).to_string();
        vec![
            Sent::public("CI_MERGE_REQUEST_EVENT_TYPE", "detached"),
            // Only pipelines for merged results have these two.
            Sent::public("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", ""),
            Sent::public("CI_MERGE_REQUEST_TARGET_BRANCH_SHA", ""),
            Sent::public("CI_MERGE_REQUEST_DIFF_BASE_SHA", &request.diff_base),
            Sent::public("CI_MERGE_REQUEST_ID", request.id().to_string()),
            Sent::public("CI_MERGE_REQUEST_IID", request.iid.to_string()),
            Sent::public("CI_MERGE_REQUEST_REF_PATH", request.git_ref()),
            Sent::public("CI_MERGE_REQUEST_TITLE", &request.title),
            Sent::public("CI_MERGE_REQUEST_DESCRIPTION", ""),
            Sent::public("CI_MERGE_REQUEST_SQUASH_ON_MERGE", "false"),
            Sent::public("CI_MERGE_REQUEST_PROJECT_ID", project.id.to_string()),
            Sent::public("CI_MERGE_REQUEST_PROJECT_PATH", &project.path),
            Sent::public("CI_MERGE_REQUEST_PROJECT_URL", &web_url),
            Sent::public("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", &request.target),
            Sent::public("CI_MERGE_REQUEST_TARGET_BRANCH_PROTECTED", protected(&request.target)),
            Sent::public("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", project.id.to_string()),
            Sent::public("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH", &project.path),
            Sent::public("CI_MERGE_REQUEST_SOURCE_PROJECT_URL", &web_url),
            Sent::public("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", &request.source),
            Sent::public("CI_MERGE_REQUEST_SOURCE_BRANCH_PROTECTED", protected(&request.source)),
        ]
    }

    /// What a Pipeline Hook says of it (gitlab-protocol.md §1.7).
    pub fn hook_merge_request(&self, request: &MergeRequest, project: &Project) -> Value {
        json!({
            "id": request.id(),
            "iid": request.iid,
            "title": request.title,
            "source_branch": request.source,
            "source_project_id": project.id,
            "target_branch": request.target,
            "target_project_id": project.id,
            "state": "opened",
            "merge_status": "can_be_merged",
            "detailed_merge_status": "ci_still_running",
            "url": format!("{}/-/merge_requests/{}", self.web_url(project), request.iid),
        })
    }
}
