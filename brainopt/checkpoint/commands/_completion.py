# SPDX-License-Identifier: Apache-2.0
"""``brainopt completion``: scripts that complete commands and options in a shell."""

import argparse

from ._output import say

_FIRST = "__fish_use_subcommand"
_BASH = """_brainopt() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" words
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  [ "$COMP_CWORD" = 1 ] && words="{commands}"
  if [[ "$word" == -* || "$COMP_CWORD" = 1 ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _brainopt brainopt
"""


def run(chosen: argparse.Namespace) -> int:
    """Print the script of a shell, for its start-up file."""
    options: dict[str, list[str]] = chosen.options
    # The words come from the parser itself, so the script knows every option there is.
    if chosen.shell == "fish":
        lines = [f"complete -c brainopt -n {_FIRST} -a {name}" for name in options]
        lines += [
            f"complete -c brainopt -n '__fish_seen_subcommand_from {name}' "
            f"-l {option.removeprefix('--')}"
            for name, words in options.items()
            for option in words
        ]
        say(*lines)
        return 0
    cases = "\n".join(
        f'    {name}) words="{" ".join(words)}" ;;' for name, words in options.items()
    )
    script = _BASH.format(cases=cases, commands=" ".join(options))
    # zsh runs completions of bash through its own module.
    if chosen.shell == "zsh":
        say("autoload -U +X bashcompinit && bashcompinit")
    say(script)
    return 0
