job "files" {
  meta = {
    text   = file("included.txt")
    base64 = filebase64("included.txt")
    exists = fileexists("nothing.txt")
    base   = basename("/a/b/c.txt")
    dir    = dirname("/a/b/c.txt")
    set    = join(",", fileset(".", "inc*.txt"))
  }
  group "g" {
    task "t" {
      driver = "exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
