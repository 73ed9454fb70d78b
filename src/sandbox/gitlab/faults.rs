//! Owns the faults that a test may order (gitlab-protocol.md §11.2), as wishes until they are used up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde_json::Value;

use super::shared::Shared;

/// What a claim gets while the replica lags (E6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// 204, as if nothing waited.
    NoContent,
    /// 409: GitLab knows that it lags.
    Conflict,
}

/// When a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing happened in GitLab.
    BeforeHandling,
    /// It happened, and nobody hears of it.
    AfterHandling,
}

/// A handle that orders faults at any time; clones order from the same GitLab.
#[derive(Clone)]
pub struct Faults {
    pub(super) shared: Arc<Shared>,
}

type Rewrite = Arc<dyn Fn(&mut Value) + Send + Sync>;

#[derive(Default)]
pub(super) struct FaultState {
    pub answers: Vec<Answer>,
    pub cuts: Vec<CutOrder>,
    pub lagged: VecDeque<Lag>,
    pub conflicts: usize,
    pub pending_finals: usize,
    pub lookup_lag: Duration,
    pub lost_hooks: usize,
    pub doubled_hooks: usize,
    pub running_first: bool,
    pub rewrites: Vec<(Option<u64>, Rewrite)>,
    pub raw_claims: VecDeque<Vec<u8>>,
    pub redirects: usize,
    pub direct_download: bool,
}

pub(super) struct Answer {
    pub whom: Whom,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub left: Left,
}

pub(super) struct CutOrder {
    pub whom: Whom,
    pub cut: Cut,
    pub times: usize,
}

pub(super) struct Whom {
    pub method: String,
    pub path: Option<Regex>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Left {
    Times(usize),
    Until(Timestamp),
}

impl Faults {
    /// E6: the next `claims` that could have had a job get none.
    pub fn lag_next_claims(&self, claims: usize, lag: Lag) {
        self.order(|faults| faults.lagged.extend(std::iter::repeat_n(lag, claims)));
    }

    /// The next `claims` get 409, whatever waits.
    pub fn conflict_next_claims(&self, claims: usize) {
        self.order(|faults| faults.conflicts = claims);
    }

    /// E17: the next `times` requests of `method` (`*` is any) whose path fits the regular expression `path` from its
    /// start get `status` and `headers`, and GitLab never sees them.
    pub fn answer_next(&self, method: &str, path: &str, status: u16, headers: &[(&str, &str)], times: usize) {
        self.answer(method, path, status, headers, Left::Times(times));
    }

    /// The same for as long as `duration` lasts on the clock: "502 for a minute".
    pub fn answer_for(&self, duration: Duration, method: &str, path: &str, status: u16, headers: &[(&str, &str)]) {
        let until = later(self.shared.clock.now(), duration);
        self.answer(method, path, status, headers, Left::Until(until));
    }

    /// The next `times` fitting requests end in a cut connection.
    pub fn cut_next(&self, method: &str, path: &str, cut: Cut, times: usize) {
        let whom = Whom::new(method, path);
        self.order(|faults| faults.cuts.push(CutOrder { whom, cut, times }));
    }

    /// E9: the stored log of `job` is lost; the next PATCH gets 416 with `Range: 0-0`.
    pub fn flush_trace(&self, job: u64) {
        self.shared.change(|state| {
            if let Some(job) = state.jobs.get_mut(&job) {
                job.trace.clear();
            }
        });
    }

    /// E11: the next `times` final updates that carry a checksum get 202.
    pub fn final_update_pending(&self, times: usize) {
        self.order(|faults| faults.pending_finals = times);
    }

    /// E22: `GET /job` answers 401 until a claim is `lag` old.
    pub fn job_lookup_lag(&self, lag: Duration) {
        self.order(|faults| faults.lookup_lag = lag);
    }

    /// The next `hooks` are never sent.
    pub fn lose_next_hooks(&self, hooks: usize) {
        self.order(|faults| faults.lost_hooks = hooks);
    }

    /// E7: the next `hooks` are sent twice with the same `Idempotency-Key`.
    pub fn double_hooks(&self, hooks: usize) {
        self.order(|faults| faults.doubled_hooks = hooks);
    }

    /// E7: from now on a job's `pending` is held back until its `running` was sent.
    pub fn running_before_pending(&self, on: bool) {
        self.order(|faults| faults.running_first = on);
    }

    /// Changes what the claim of `job` (`None`: of every job) says.
    pub fn rewrite_claim(&self, job: Option<u64>, rewrite: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.order(|faults| faults.rewrites.push((job, Arc::new(rewrite))));
    }

    /// Replaces the body of the next 201 by `body`.
    pub fn claim_body_raw(&self, body: Vec<u8>) {
        self.order(|faults| faults.raw_claims.push_back(body));
    }

    /// The next `uploads` of artifacts get 307 to another place of this server (§7.1).
    pub fn redirect_uploads(&self, uploads: usize) {
        self.order(|faults| faults.redirects = uploads);
    }

    /// Whether downloads that ask for it get 302 to a storage URL, where no job token may be shown (§7.2).
    pub fn direct_download(&self, on: bool) {
        self.order(|faults| faults.direct_download = on);
    }

    /// Takes back everything that was ordered and is not used up.
    pub fn clear(&self) {
        self.order(|faults| *faults = FaultState::default());
    }

    fn answer(&self, method: &str, path: &str, status: u16, headers: &[(&str, &str)], left: Left) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let whom = Whom::new(method, path);
        self.order(|faults| faults.answers.push(Answer { whom, status, headers, left }));
    }

    fn order(&self, order: impl FnOnce(&mut FaultState)) {
        self.shared.change(|state| order(&mut state.faults));
    }
}

impl FaultState {
    /// The ordered answer for this request, if there is one.
    pub fn take_answer(&mut self, method: &str, path: &str, now: Timestamp) -> Option<(u16, Vec<(String, String)>)> {
        self.answers.retain(|answer| match answer.left {
            Left::Times(times) => times > 0,
            Left::Until(until) => now < until,
        });
        let answer = self.answers.iter_mut().find(|answer| answer.whom.is(method, path))?;
        if let Left::Times(times) = &mut answer.left {
            *times -= 1;
        }
        Some((answer.status, answer.headers.clone()))
    }

    /// How this request is to be cut, if it is.
    pub fn take_cut(&mut self, method: &str, path: &str) -> Option<Cut> {
        let order = self.cuts.iter_mut().find(|order| order.times > 0 && order.whom.is(method, path))?;
        order.times -= 1;
        Some(order.cut)
    }
}

impl Whom {
    /// A path that is no regular expression is taken literally.
    fn new(method: &str, path: &str) -> Self {
        let path =
            Regex::new(&format!("^(?:{path})")).or_else(|_| Regex::new(&format!("^{}", regex::escape(path)))).ok();
        Whom { method: method.to_ascii_uppercase(), path }
    }

    fn is(&self, method: &str, path: &str) -> bool {
        (self.method == "*" || self.method == method) && self.path.as_ref().is_some_and(|fits| fits.is_match(path))
    }
}

/// `by` after `time`, or the end of time.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}
