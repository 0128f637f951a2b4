job "hello" {
  type = "batch"
  group "g" {
    task "hello" {
      driver = "exec"
      config {
        command = "/bin/echo"
        args    = ["hello", "world"]
      }
    }
  }
}
