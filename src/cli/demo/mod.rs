//! `mayfly demo`: a newcomer sees the way of a job on one screen, run by the code of production.

mod narrator;
mod pipelines;
mod report;

use anyhow::Context;
use clap::Args;

use crate::sandbox::{Sandbox, Settings};

use super::agent::agent;
use super::exit::ExitCode;
use super::screen::{Screen, Tone, print_json};

use narrator::Narrator;
use report::{Pass, Report};

/// The options of `mayfly demo`.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Print one JSON document at the end, and nothing else.
    #[arg(long)]
    json: bool,
    /// Show all lines of the jobs' logs, not only the scripts' own.
    #[arg(long)]
    full_log: bool,
}

impl Demo {
    pub(super) async fn run(self) -> ExitCode {
        let screen = Screen::new(self.json);
        match self.show(screen).await {
            Ok(report) => {
                report.show(screen);
                if self.json {
                    print_json(&report.json());
                }
                if report.passed() { ExitCode::Success } else { ExitCode::Failure }
            }
            Err(error) => {
                screen.line(Tone::Bad, &format!("error: {error:#}"));
                if self.json {
                    print_json(&serde_json::json!({"error": format!("{error:#}")}));
                }
                ExitCode::Failure
            }
        }
    }

    async fn show(&self, screen: Screen) -> anyhow::Result<Report> {
        let agent = agent()?;
        screen.line(Tone::Title, "Mayfly runs GitLab CI jobs on AWS with nothing left on.");
        screen
            .line(Tone::Plain, "This is the code of production between stand-ins for GitLab, ECS and S3 on 127.0.0.1.");
        screen.line(
            Tone::Plain,
            "Here a task's containers are processes of this machine; on AWS they are Fargate containers.",
        );
        let sandbox = Sandbox::start(Settings { agent: Some(agent), ..Settings::default() }).await?;
        let report = tokio::select! {
            report = self.passes(&sandbox, screen) => report,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        sandbox.shutdown().await;
        report
    }

    async fn passes(&self, sandbox: &Sandbox, screen: Screen) -> anyhow::Result<Report> {
        let mut narrator = Narrator::new(sandbox, screen, self.full_log);
        let mut report = Report::default();
        for demo in pipelines::all()? {
            let repository = pipelines::repository(demo.files)?;
            let project = sandbox.add_project(demo.path, repository.path());
            for pass in 1..=demo.passes {
                let again = if pass > 1 { ", once more: now the cache is there" } else { "" };
                screen.line(Tone::Plain, "");
                screen.line(Tone::Title, &format!("{}{again}", demo.title));
                let pipeline = sandbox.gitlab.run_pipeline(project, "main").context("running the pipeline")?;
                narrator.follow(&pipeline).await;
                report.passes.push(Pass::of(demo.path, pass, &pipeline, sandbox));
            }
        }
        Ok(report)
    }
}
