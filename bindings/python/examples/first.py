import array

import dure

with dure.Communicator() as comm:
    x = array.array("f", [1, 2, 3])
    comm.all_reduce(x)
    print(x.tolist())
