
# Names of what is there: asked of the program, which offers none that a shell could take for more than a word.
function __bivouac_names
    set -l before (commandline -opc)
    set -l names ($before[1] complete -- $before[2..-1] (commandline -ct) 2>/dev/null)
    test (count $names) -gt 0
    and printf '%s\n' $names
end

complete -c bivouac -n "__bivouac_names >/dev/null" -f -a "(__bivouac_names)"
