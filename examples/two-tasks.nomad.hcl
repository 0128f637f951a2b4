# Two tasks of one group share /alloc and nothing else: one writes, the other, its leader, waits for it and reads.
job "two-tasks" {
  type = "batch"

  group "pair" {
    task "writer" {
      driver = "exec"
      # A first process hears no signal that it does not handle: what `sleep` gets of its end is the kill.
      kill_timeout = "1s"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo a message from $NOMAD_TASK_NAME > /alloc/data/message && exec sleep 60"]
      }
    }

    task "reader" {
      driver = "exec"
      leader = true

      config {
        command = "/bin/sh"
        args    = ["-c", "until [ -s /alloc/data/message ]; do sleep 0.1; done; cat /alloc/data/message"]
      }
    }
  }
}
