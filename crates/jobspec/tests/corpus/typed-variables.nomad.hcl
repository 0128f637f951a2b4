variable "names" {
  type    = set(string)
  default = ["b", "a", "b"]
}
variable "ports" {
  type    = map(number)
  default = { http = "80" }
}
variable "app" {
  type = object({
    name = string
    size = number
  })
  default = { name = "x", size = "3" }
  validation {
    condition     = var.app.size < 5
    error_message = "The size must be below 5."
  }
}
job "typed-variables" {
  meta = {
    names = join("-", var.names)
    port  = var.ports["http"]
    app   = "${var.app.name}${var.app.size}"
  }
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
      env = {
        SIZE = var.app.size
      }
    }
  }
}
