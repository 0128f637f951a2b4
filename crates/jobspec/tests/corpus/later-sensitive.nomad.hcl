variable "secret" {
  sensitive = true
  default   = "hunter2"
}
job "later-sensitive" {
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
      env = {
        SECRET = var.secret
      }
    }
  }
}
