//! Starts the application with the configuration from the environment.

use std::process::ExitCode;

use webapp::{Application, Config};

#[actix_web::main]
async fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "a startup error is for the person at the terminal"
            )]
            {
                eprintln!("webapp: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let application = Application::start(&Config::from_env()?).await?;
    #[expect(clippy::print_stdout, reason = "this line says which address to open")]
    {
        println!("Open {}", application.url());
        if let Some(url) = application.metrics_url() {
            println!("Metrics: {url}");
        }
    }
    application.run().await?;
    Ok(())
}
