"""``ckpt("bag")`` replaces the caller's variable: one function for each kind of caller.

A plain script as well, which needs the package and nothing else, so that it runs on
every Python: ``python caller_cases.py``.
"""

import inspect
import sys
import tempfile

import dask
import dask.bag

import agatha_ckpt as checkpoint

VALUES = ["a", "b", "c", "d"]


class Source:
    """A bag of VALUES, and how often its records were computed."""

    def __init__(self):
        self.computed = 0
        self.bag = dask.bag.from_sequence(VALUES, npartitions=2).map(self._compute)

    def _compute(self, value):
        self.computed += 1
        return value

    def check_replaced_by(self, bag, name="bag"):
        """Check that *bag* loads the checkpoint *name* of this bag."""
        assert bag is not self.bag, "the variable still holds the bag that was saved"
        assert self.computed == len(VALUES), f"{self.computed} records were computed"
        assert bag.compute() == VALUES, "the variable's bag has other records"
        assert self.computed == len(VALUES), "the variable's bag computes, not loads"
        assert checkpoint.is_ckpt_done(name), f"no checkpoint {name!r} is done"


def names_of_done():
    return sorted(checkpoint.get_checkpoints_like("*"))


MODULE = """\
from agatha_ckpt import ckpt
bag = source.bag
other = 1
ckpt("bag")
other += 1
"""


def case_at_module_level():
    module = {"__name__": "some_module", "source": Source()}
    exec(compile(MODULE, "some_module.py", "exec"), module)
    module["source"].check_replaced_by(module["bag"])
    assert module["other"] == 2, "another variable of the module changed"


def case_in_a_function():
    source = Source()
    bag = source.bag
    assert checkpoint.ckpt("bag") is None, "ckpt returned something"
    source.check_replaced_by(bag)


def case_a_variable_that_a_nested_function_reads():
    source = Source()
    bag = source.bag

    def read():
        return bag

    checkpoint.ckpt("bag")
    source.check_replaced_by(bag)
    assert read() is bag, "the nested function still sees the old bag"


def case_in_a_nested_function_for_the_variable_of_the_enclosing_one():
    source = Source()
    bag = source.bag

    def save():
        before = bag
        checkpoint.ckpt("bag")
        assert bag is not before, "the nested function still sees the old bag"
        return bag

    seen_inside = save()
    source.check_replaced_by(bag)
    assert seen_inside is bag, "the enclosing function sees another bag"


def case_in_a_generator():
    source, second = Source(), Source()

    def pipeline():
        bag = source.bag
        checkpoint.ckpt("bag")
        yield bag
        yield bag
        bag = second.bag
        checkpoint.ckpt("bag", "second")
        yield bag

    first, same, last = pipeline()
    source.check_replaced_by(first)
    assert same is first, "the variable changed while the generator was suspended"
    second.check_replaced_by(last, "second_bag")


def case_a_global_used_inside_a_function():
    global bag_of_module
    source = Source()
    bag_of_module = source.bag

    def save():
        checkpoint.ckpt("bag_of_module")
        return bag_of_module

    seen_inside = save()
    source.check_replaced_by(bag_of_module, "bag_of_module")
    assert seen_inside is bag_of_module, "the function sees another bag"


def case_a_local_variable_hides_a_global_of_its_name():
    global bag_of_module
    source = Source()
    untouched = bag_of_module = Source().bag

    def save():
        bag_of_module = source.bag
        checkpoint.ckpt("bag_of_module")
        return bag_of_module

    source.check_replaced_by(save(), "bag_of_module")
    assert bag_of_module is untouched, "the global was replaced as well"


def case_with_a_prefix():
    source, other = Source(), Source()
    bag = source.bag
    checkpoint.ckpt("bag", "en")
    source.check_replaced_by(bag, "en_bag")
    bag = other.bag
    checkpoint.ckpt("bag", ckpt_prefix="de")
    other.check_replaced_by(bag, "de_bag")
    assert names_of_done() == ["de_bag", "en_bag"], names_of_done()


def case_with_textfile_the_variable_keeps_its_bag():
    source = Source()
    bag = source.bag
    checkpoint.ckpt("bag", textfile=True)
    assert bag is source.bag, "the variable was replaced"
    assert checkpoint.checkpoint("bag").compute() == VALUES, "other lines were saved"


def case_twice_in_a_row():
    source = Source()
    bag = source.bag
    checkpoint.ckpt("bag")
    checkpoint.ckpt("bag")
    source.check_replaced_by(bag)


def case_other_variables_keep_their_values():
    source = Source()
    plain, in_cell, changing, doomed = object(), object(), 0, "here"
    expected = plain, in_cell

    def read():
        return in_cell

    def change(value):
        # In the middle of ckpt, while the bag is computed.
        nonlocal changing, doomed, born
        changing += 1
        doomed = None
        born = "while computing"
        return value

    if not VALUES:  # never: both are variables of this function without a value
        born = never_bound = None
    bag = source.bag.map(change)
    checkpoint.ckpt("bag")
    assert bag.compute() == VALUES, "the variable's bag has other records"
    assert (plain, read()) == expected, "variables of the caller changed"
    assert changing == len(VALUES), f"a change was lost: {changing}"
    assert doomed is None, "an old value came back"
    assert born == "while computing", "a new value was lost"
    try:
        print(never_bound)
        raise AssertionError("a variable without a value got one")
    except UnboundLocalError:
        pass


def case_while_a_debugger_traces():
    source = Source()

    def traced():
        bag = source.bag
        before = 1
        checkpoint.ckpt("bag")
        after = before + 1
        return bag, after

    def trace(frame, event, argument):
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        bag, after = traced()
    finally:
        sys.settrace(former)
    source.check_replaced_by(bag)
    assert after == 2, "another variable changed"


def case_a_checkpointers_method_in_a_function():
    source = Source()
    bag = source.bag

    def read():
        return bag

    mine = checkpoint.Checkpointer(checkpoint.get_root(), verbose=False)
    mine.ckpt("bag", "mine")
    source.check_replaced_by(bag, "mine_bag")
    assert read() is bag, "the nested function still sees the old bag"


def expect_error(error_type, piece, call):
    message = None
    try:
        call()
    except error_type as error:
        message = str(error)
    assert message, f"no {error_type.__name__} was raised"
    assert piece in message, f"the message does not name {piece}: {message}"
    assert names_of_done() == [], names_of_done()


def case_a_missing_variable_is_named():
    mine = checkpoint.Checkpointer(checkpoint.get_root(), verbose=False)
    missing = checkpoint.InvalidNameError
    for save in (checkpoint.ckpt, mine.ckpt):
        expect_error(missing, "'nowhere'", lambda s=save: s("nowhere"))


def case_a_variable_of_a_caller_further_up_is_missing():
    bag = Source().bag

    def save():  # sees no variable of that name
        checkpoint.ckpt("bag")

    expect_error(checkpoint.InvalidNameError, "'bag'", save)
    assert isinstance(bag, dask.bag.Bag), "the variable further up was replaced"


def case_a_variable_that_holds_no_bag_is_named():
    mine = checkpoint.Checkpointer(checkpoint.get_root(), verbose=False)

    def save_with(save, numbers):
        save("numbers")

    for save in (checkpoint.ckpt, mine.ckpt):
        for value in ([1, 2], None, dask.bag.Bag):
            expect_error(
                checkpoint.EncodeError,
                "'numbers'",
                lambda s=save, v=value: save_with(s, v),
            )


def case_an_item_is_replaced():
    total = Source().bag.count()
    before = total.compute()
    checkpoint.ckpt("total")
    assert "load:total" in total.key
    assert total.compute() == before


CASES = [
    function
    for name, function in list(globals().items())
    if name.startswith("case_") and inspect.isfunction(function)
]


def run(case, folder):
    """Run one case under a root of its own."""
    checkpoint.reset()
    checkpoint.set_root(folder)
    checkpoint.set_verbose(False)
    with dask.config.set(scheduler="sync"):
        case()


def main():
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                run(case, folder)
            except BaseException as error:
                error.add_note(f"in {case.__name__}")
                raise


if __name__ == "__main__":
    main()
    # And once in a module that was not put together for the purpose.
    with tempfile.TemporaryDirectory() as root, dask.config.set(scheduler="sync"):
        checkpoint.reset()
        checkpoint.set_root(root)
        checkpoint.set_verbose(False)
        main_source = Source()
        bag = main_source.bag
        checkpoint.ckpt("bag")
        main_source.check_replaced_by(bag)
    print(f"caller cases: {len(CASES) + 1} passed")
