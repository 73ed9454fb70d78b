//! What the author of a job reads when its task failed: the last line of the log, to the letter. Each says what failed
//! and what to do.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use mayfly::sandbox::Settings;
use mayfly::sandbox::ecs::{Ending, Runtime, SimulatedTask};

use crate::support::{Story, in_time, trace};

/// How a task ends that never opens its ticket.
#[derive(Clone)]
enum End {
    Exits(&'static [(&'static str, i64)]),
    OutOfMemory(&'static str),
    FailsToStart(&'static str),
    StoppedByAws(&'static str, &'static str),
    CannotPull(&'static str, &'static str),
}

/// One failing job.
struct Failure {
    end: End,
    reason: &'static str,
    tasks: usize,
    says: &'static str,
}

const PIPELINE: &str = "build:\n  image: app/builder:1\n  tags: [cpu-1, mem-2g]\n  script: ['true']\n";

const FAILURES: &[Failure] = &[
    Failure {
        end: End::CannotPull("app/builder", "CannotPullContainerError: failed to resolve ref app/builder:1: not found"),
        reason: "runner_configuration_error",
        tasks: 1,
        says: "the image `app/builder:1` could not be pulled; it was not found: check its \
               name and tag in `image:` or `services:` (CannotPullContainerError: failed to resolve ref app/builder:1: not \
               found)",
    },
    Failure {
        end: End::CannotPull("app/builder", "CannotPullContainerError: pull access denied, authorization failed"),
        reason: "runner_configuration_error",
        tasks: 1,
        says: "the image `app/builder:1` could not be pulled; the registry denies access: \
               check the name, or let the owner of Mayfly's stack add the registry and this project to \
               `[[images.registries]]` in fleet.toml (CannotPullContainerError: pull access denied, authorization failed)",
    },
    Failure {
        end: End::CannotPull(
            "app/builder",
            "CannotPullContainerError: toomanyrequests: You have reached your pull rate limit",
        ),
        reason: "runner_external_dependency_failure",
        tasks: 3,
        says: "the image `app/builder:1` could not be pulled; the registry's rate limit \
               is reached: retry later, or use credentials (`[[images.registries]]`) or a pull-through cache \
               (CannotPullContainerError: toomanyrequests: You have reached your pull rate limit)",
    },
    Failure {
        end: End::CannotPull(
            "app/builder",
            "CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/amd64'",
        ),
        reason: "runner_configuration_error",
        tasks: 1,
        says: "the image `app/builder:1` could not be pulled; it does not exist for this \
               processor: use the tag `arm64` or `amd64`, or an image for both (CannotPullContainerError: image Manifest \
               does not contain descriptor matching platform 'linux/amd64')",
    },
    Failure {
        end: End::CannotPull("app/builder", "CannotPullContainerError: write /usr/lib/x: no space left on device"),
        reason: "runner_system_failure",
        tasks: 1,
        says: "the image `app/builder:1` could not be pulled; it does not fit on the \
               task's disk: ask for more with a `disk-` tag, for example `disk-50g` (CannotPullContainerError: write \
               /usr/lib/x: no space left on device)",
    },
    Failure {
        end: End::FailsToStart("CannotStartContainerError: exec: \"sh\": executable file not found in $PATH"),
        reason: "runner_configuration_error",
        tasks: 1,
        says: "the image `app/builder:1` has no shell, and a job's script needs one: use an image that has \
               `sh`",
    },
    Failure {
        end: End::OutOfMemory("build"),
        reason: "runner_system_failure",
        tasks: 1,
        says: "the job's script needed more than its memory of 1792 MiB: ask for more \
               with a `mem-` tag, for example `mem-8g`",
    },
    Failure {
        end: End::OutOfMemory("helper"),
        reason: "runner_system_failure",
        tasks: 1,
        says: "Mayfly's helper, which fetches sources, caches and artifacts, needed more \
               than its memory of 256 MiB: raise it with the variable `KUBERNETES_HELPER_MEMORY_LIMIT`, for example `1Gi`",
    },
    Failure {
        end: End::StoppedByAws("SpotInterruption", "Your Spot Task was interrupted."),
        reason: "runner_interrupted",
        tasks: 3,
        says: "AWS took the spot capacity back before the job was done: retry it, add \
               `retry: {when: runner_system_failure}`, or use the tag `on-demand`",
    },
    Failure {
        end: End::FailsToStart(
            "ResourceInitializationError: unable to pull secrets or registry auth: AccessDeniedException: arn:aws:sts::123456789012:role/x is not authorized to perform: secretsmanager:GetSecretValue",
        ),
        reason: "runner_system_failure",
        tasks: 1,
        says: "a secret of the task cannot be read: the owner of Mayfly's stack must check \
               the credentials in `[[images.registries]]` of fleet.toml and the stack's parameter `RegistrySecretArns` \
               (ResourceInitializationError: unable to pull secrets or registry auth: AccessDeniedException: \
               arn:aws:sts::<account>:role/x is not authorized to perform: secretsmanager:GetSecretValue)",
    },
    Failure {
        end: End::FailsToStart(
            "ResourceInitializationError: InsufficientFreeAddressesInSubnet: The subnet does not have enough free addresses",
        ),
        reason: "runner_system_failure",
        tasks: 3,
        says: "the task's subnet has no free address: retry the job later, or add subnets \
               to the stack (ResourceInitializationError: InsufficientFreeAddressesInSubnet: The subnet does not have enough \
               free addresses)",
    },
    Failure {
        end: End::Exits(&[("helper", 70), ("build", 143)]),
        reason: "runner_system_failure",
        tasks: 3,
        says: "the helper container ended with exit code 70: it could not fetch Mayfly's \
               agent from the broker; do the task's subnets have a route to the internet?",
    },
    Failure {
        end: End::Exits(&[("helper", 10), ("build", 127)]),
        reason: "runner_configuration_error",
        tasks: 1,
        says: "the build container with the image `app/builder:1` ended with exit code \
               127 before the job was done: its entrypoint or its shell `sh` does not work",
    },
    Failure {
        end: End::StoppedByAws("UserInitiated", "Task stopped in the console"),
        reason: "runner_system_failure",
        tasks: 1,
        says: "the task was stopped by someone with access to the AWS account (Task \
               stopped in the console)",
    },
];

fn settings(end: End) -> Settings {
    let play = move |task: SimulatedTask| {
        let end = end.clone();
        async move {
            if let End::FailsToStart(reason) = end {
                return Ending::failed_to_start(reason);
            }
            task.running();
            task.runs_for(Duration::from_millis(10)).await;
            match end {
                End::Exits(codes) => Ending::exited(codes.iter().copied()),
                End::OutOfMemory(container) => Ending::out_of_memory(container),
                End::StoppedByAws(code, reason) => Ending::stopped_by_aws(code, reason),
                End::FailsToStart(_) | End::CannotPull(..) => unreachable!("it never ran"),
            }
        }
        .boxed()
    };
    Settings { runtime: Runtime::Simulated(Arc::new(play)), ticks: false, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_task_is_explained_with_what_to_do() {
    for failure in FAILURES {
        let story = Story::start_with(settings(failure.end.clone()), PIPELINE).await;
        if let End::CannotPull(image, text) = failure.end {
            story.sandbox.ecs.faults().fail_pull(image, text);
        }
        let job = story.run().jobs().remove(0);
        in_time(job.finished()).await;

        let log = trace(&job);
        let last = log.lines().last().unwrap_or_default();
        let last = last.split_once("[31;1mERROR: Job failed").map_or(last, |(_, text)| text);
        let last = last.trim_end_matches("\u{1b}[0;m").trim_start_matches(" (system failure)").trim_start_matches(": ");
        assert_eq!(last, failure.says, "{log}");
        assert_eq!(job.failure_reason().as_deref(), Some(failure.reason), "{last}");
        assert_eq!((story.sandbox.ecs.tasks().len(), job.finishes()), (failure.tasks, 1), "{last}");
        story.end().await;
    }
}
