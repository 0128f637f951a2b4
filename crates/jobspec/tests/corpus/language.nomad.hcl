variable "n" { 
 default = 1 
}
variable "s" {
  type = list(string)
  default = ["a", 1, true]
}
variable "st" {
  type = set(string)
  default = ["b", "a", "b"]
}
variable "un" { 
default = "x" 
}
locals { 
 l = "${var.un}-y" 
 big = 9007199254740993
}
job "a" {
  meta { 
   a = var.n  
   b = "$${X}" 
   c = "${ attr.foo }" 
   d = attr.foo 
   e = "x ${attr.a["b"].c} y" 
   f = 0.1+0.2 
   g = local.big 
   i = 1e3
   j = 2.50
   l = local.l
   m = upper(attr.foo)
   o = "$$${X} %%{X}"
   p = true ? env["X"] : "b"
   q = <<-EOT
      a
        b ${node.x}
    EOT
  }
  group "g" {
    count = "2"
    dynamic "task" {
      for_each = var.s
      labels = ["t-${task.value}"]
      content {
        driver = "exec"
        config {
          command = "x"
          args = [for x in var.st : "${x}"]
          n = { a = 1, "b" = [1, 2.5, null] }
          mount {
            type = "bind"
            opts {
              x = 1
            }
          }
          mount "lab" {
            type = "bind"
          }
        }
        kill_timeout = "5s"
        env {
          A = 1
          B = true
          C = task.key
        }
        resources {
          cpu = 1.0
        }
      }
    }
  }
}
