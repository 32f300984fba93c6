//! The one binary.

fn main() -> std::process::ExitCode {
    nigh::main()
}
