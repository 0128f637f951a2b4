variable "names" {
  type    = list(string)
  default = ["red", "green"]
}
job "dynamic-tasks" {
  group "g" {
    dynamic "task" {
      for_each = var.names
      labels   = ["paint-${task.value}"]
      content {
        driver = "exec"
        config {
          command = "/bin/echo"
          args    = [task.value, task.key]
        }
      }
    }
  }
}
