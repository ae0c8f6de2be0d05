"""A release's program as a graph of known operators: read from a torch.export archive, checked, and run by ourselves.

torch.export's own loader unpickles, evaluates strings as Python and imports what tree specs name. Here an archive is JSON and raw bytes,
and nothing of it is looked up but names of operators in a fixed list (``operators.txt``). What is not used (metadata, call graph, tree
specs, guards, examples) is not read. A graph that passes computes its outputs from its input and its constants, and does nothing else:

- every operator is on the list, and every argument is of the type that its schema names; strings are from a fixed set;
- nothing is drawn at random, and nothing is trained (``train=False``, no running statistics);
- only values that the graph made itself are changed in place, never an image, a parameter or a constant;
- devices are the one that the program is loaded for.

Legend: N images, C channels, S side in pixels, D dimensions of φ, P of ψ.
"""

from fct.program.graph.reading import MODEL, read
from fct.program.graph.rules import IGNORED, objection, overload_of
from fct.program.graph.running import Graph
from fct.program.graph.steps import Refused, Step

__all__ = ["IGNORED", "MODEL", "Graph", "Refused", "Step", "objection", "overload_of", "read"]
