variables {
  greeting = "hi"
}
job "two-tasks" {
  group "g" {
    task "one" {
      driver = "exec"
      config {
        command = "/bin/echo"
        args    = [var.greeting, "one"]
      }
    }
    task "two" {
      driver = "exec"
      config {
        command = "/bin/echo"
        args    = [var.greeting, "two"]
      }
    }
  }
}
