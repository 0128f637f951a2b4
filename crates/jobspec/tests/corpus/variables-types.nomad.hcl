variable "s" {
  type    = string
  default = "text"
}
variable "n" {
  type    = number
  default = 3
}
variable "b" {
  type    = bool
  default = true
}
variable "l" {
  type    = list(number)
  default = [1, 2]
}
variable "m" {
  type    = map(string)
  default = { k = "v" }
}
variable "o" {
  type    = object({ name = string, ports = list(number) })
  default = { name = "x", ports = [1] }
}
variable "checked" {
  default = "abc"
  validation {
    condition     = strlen(var.checked) == 3
    error_message = "The value must have three letters."
  }
}
job "variables-types" {
  meta {
    s = var.s
    n = var.n + 1
    b = !var.b
    l = join(",", var.l)
    m = var.m["k"]
    o = "${var.o.name}:${var.o.ports[0]}"
    c = var.checked
    e = var.from_env
  }
  group "g" {
    count = var.n
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
variable "from_env" {
  default = "not set"
}
