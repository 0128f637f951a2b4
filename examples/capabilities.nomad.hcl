# Capabilities: none but the right to listen on low ports, and nothing can be gained by running a program.
job "capabilities" {
  type = "batch"

  group "capabilities" {
    task "capabilities" {
      driver = "exec"

      config {
        command      = "/bin/grep"
        args         = ["-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"]
        cap_drop     = ["all"]
        cap_add      = ["net_bind_service"]
        no_new_privs = true
      }
    }
  }
}
